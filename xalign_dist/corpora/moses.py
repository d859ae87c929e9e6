"""Moses: two line-aligned files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.lines import read_lines
from xalign_dist.corpora.places import locate
from xalign_dist.corpora.rows import Raw
from xalign_dist.errors import ConfigError, DataError


def read_moses(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Line i of ``path`` with line i of ``cfg.target_path``; for sentences, the lines of ``path``.

    Raises:
        ConfigError: no ``target_path``.
        DataError: the sides have different numbers of lines (known when both were read to their end).
    """
    if cfg.kind == "sentences":
        for number, (text, fault) in enumerate(read_lines(path, filesystem), start=1):
            yield Raw({"text": text}, f"line {number}", fault)
        return
    if cfg.target_path is None:
        raise ConfigError(f"{path}: a Moses corpus has two files", "set corpora.target_path")
    other_system, other = locate(cfg.target_path)
    left, right = read_lines(path, filesystem), read_lines(other, other_system)
    counts = [0, 0]
    for a, b in zip_longest(left, right):
        counts[0] += a is not None
        counts[1] += b is not None
        if a is None or b is None:
            continue
        fault = next((f"{side}: {x[1]}" for side, x in (("src", a), ("tgt", b)) if x[1]), None)
        yield Raw({"src": a[0], "tgt": b[0]}, f"line {counts[0]}", fault)
    if counts[0] != counts[1]:
        raise DataError(
            f"{path} has {counts[0]:,} lines and {cfg.target_path} has {counts[1]:,}",
            "line-aligned files must have equally many: find the line lost on one side",
        )
