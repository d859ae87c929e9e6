"""JSON lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.lines import read_lines
from xalign_dist.corpora.rows import Raw


def read_jsonl(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Rows of one JSON-lines file; a line that is no object is a fault."""
    for number, (text, fault) in enumerate(read_lines(path, filesystem), start=1):
        place = f"line {number}"
        if text is not None and not text.strip():
            continue
        fields, fault = ({}, fault) if text is None else _parse(text)
        yield Raw({**fields, **{ours: fields.get(theirs) for ours, theirs in cfg.columns.items()}}, place, fault)


def _parse(text: str) -> tuple[dict[str, Any], str | None]:
    try:
        value = json.loads(text)
    except ValueError as err:
        return {}, f"not JSON ({err})"
    return (value, None) if isinstance(value, dict) else ({}, f"{type(value).__name__}, not an object")
