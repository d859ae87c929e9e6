"""Tab-separated text, with or without a header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.columns import TEXT_COLUMNS, check_columns, map_fields
from xalign_dist.corpora.lines import read_lines
from xalign_dist.corpora.rows import Raw
from xalign_dist.errors import DataError


def read_tsv(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Rows of one file. The first line is a header when it names our (mapped) text columns.

    Without a header the columns are src and tgt, or text; or as ``columns`` numbers them from 1,
    e.g. ``{src: "2", tgt: "3"}`` where a score comes before the texts. No quoting: a quote is text.

    Raises:
        DataError: columns are mapped and the first line does not name them all.
    """
    header: Sequence[str] | None = None
    for number, (text, fault) in enumerate(read_lines(path, filesystem), start=1):
        cells = [] if text is None else text.split("\t")
        if header is None:
            header, is_row = _header(cells, fault, path, cfg)
            if not is_row:
                continue
        if fault is None and len(cells) != len(header):
            fault = f"{len(cells)} fields, not {len(header)}"
        fields = dict(zip(header, cells, strict=False))
        yield Raw(map_fields(fields, cfg.columns), f"line {number}", fault)


def _header(cells: list[str], fault: str | None, path: str, cfg: CorpusConfig) -> tuple[Sequence[str], bool]:
    """(column names, whether the first line is itself a row)."""
    needed = TEXT_COLUMNS[cfg.kind]
    wanted = {cfg.columns.get(name, name) for name in needed}
    if cfg.columns:
        if fault is not None:
            raise DataError(f"{path}: line 1 names no columns: {fault}", "write the header again, in UTF-8")
        numbers = [str(i) for i in range(1, len(cells) + 1)]
        by_number = all(theirs.isdigit() for theirs in cfg.columns.values()) and not wanted <= set(cells)
        names = numbers if by_number else cells
        check_columns(names, cfg.columns, needed, path)
        return names, by_number
    return (cells, False) if wanted <= set(cells) else (needed, True)
