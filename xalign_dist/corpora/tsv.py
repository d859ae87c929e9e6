"""Tab-separated text, with or without a header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.columns import require_column
from xalign_dist.corpora.lines import read_lines
from xalign_dist.corpora.rows import Raw

_PLAIN = {"pairs": ["src", "tgt"], "sentences": ["text"]}


def read_tsv(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Rows of one file. The first line is a header when it names our (mapped) text columns.

    Without a header the columns are src and tgt, or text. No quoting: a quote is text.
    """
    needed = _PLAIN[cfg.kind]
    theirs = [cfg.columns.get(name, name) for name in needed]
    header: list[str] | None = None
    for number, (text, fault) in enumerate(read_lines(path, filesystem), start=1):
        cells = [] if text is None else text.split("\t")
        if header is None:
            if set(theirs) <= set(cells):
                header = cells
                continue
            if cfg.columns:
                for name in theirs:
                    require_column(cells, name, path)
            header = needed
        if fault is None and len(cells) != len(header):
            fault = f"{len(cells)} fields, not {len(header)}"
        fields = dict(zip(header, cells, strict=False))
        mapped = {ours: fields.get(name) for ours, name in cfg.columns.items()}
        yield Raw({**fields, **mapped}, f"line {number}", fault)
