"""JSON lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.columns import TEXT_COLUMNS, check_columns, map_fields
from xalign_dist.corpora.lines import read_lines
from xalign_dist.corpora.rows import Raw

# Objects may leave keys out, so a key counts as missing only when none of the first ones has it.
_PROBE = 100


def read_jsonl(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Rows of one JSON-lines file; a line that is no object is a fault, an empty one is no row.

    Raises:
        DataError: none of the first 100 objects has a needed key.
    """
    rows = _objects(path, filesystem)
    probe = list(islice(rows, _PROBE))
    names = list(dict.fromkeys(name for raw in probe for name in raw.fields))
    if names:
        check_columns(names, cfg.columns, TEXT_COLUMNS[cfg.kind], path)
    for raw in chain(probe, rows):
        yield raw._replace(fields=map_fields(raw.fields, cfg.columns))


def _objects(path: str, filesystem: Any) -> Iterator[Raw]:
    for number, (text, fault) in enumerate(read_lines(path, filesystem), start=1):
        if text is None:
            yield Raw({}, f"line {number}", fault)
        elif text.strip():
            fields, fault = _parse(text)
            yield Raw(fields, f"line {number}", fault)


def _parse(text: str) -> tuple[dict[str, Any], str | None]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as err:
        return {}, f"not JSON ({err})"
    return (value, None) if isinstance(value, dict) else ({}, f"{type(value).__name__}, not an object")
