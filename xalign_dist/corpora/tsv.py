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

    Without a header the columns are src and tgt, or text. No quoting: a quote is text.

    Raises:
        DataError: columns are mapped and the first line does not name them all.
    """
    header: Sequence[str] | None = None
    for number, (text, fault) in enumerate(read_lines(path, filesystem), start=1):
        cells = [] if text is None else text.split("\t")
        if header is None:
            header = _header(cells, fault, path, cfg)
            if header is not None:
                continue
            header = TEXT_COLUMNS[cfg.kind]
        if fault is None and len(cells) != len(header):
            fault = f"{len(cells)} fields, not {len(header)}"
        fields = dict(zip(header, cells, strict=False))
        yield Raw(map_fields(fields, cfg.columns), f"line {number}", fault)


def _header(cells: list[str], fault: str | None, path: str, cfg: CorpusConfig) -> list[str] | None:
    needed = TEXT_COLUMNS[cfg.kind]
    if cfg.columns:
        if fault is not None:
            raise DataError(f"{path}: line 1 names no columns: {fault}", "write the header again, in UTF-8")
        check_columns(cells, cfg.columns, needed, path)
        return cells
    return cells if set(needed) <= set(cells) else None
