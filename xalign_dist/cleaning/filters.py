"""Filters of form: empty, length, ratio, identical. Each returns a detail for a row to refuse, else None."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

from xalign_dist.cleaning.normalise import fold
from xalign_dist.config import CleaningConfig

Columns = Mapping[str, Sequence[str]]
"""A table's columns by name; pairs have src, tgt, src_lang, tgt_lang; sentences text, lang."""

Verdicts = list[str | None]

_SIDES = (("src", "src_lang"), ("tgt", "tgt_lang"), ("text", "lang"))
# Bytes added to both sides, so that "OK" against "In Ordnung" is no extreme ratio.
_RATIO_GRACE = 15
_ENDS = string.punctuation + string.whitespace


def sides(columns: Columns) -> list[tuple[str, str]]:
    """The (text, language) column names that this table has."""
    return [(t, lang) for t, lang in _SIDES if t in columns]


def first_fault(per_side: Sequence[Verdicts]) -> Verdicts:
    """Row by row, the first side's detail that is not None."""
    return [next((v for v in row if v is not None), None) for row in zip(*per_side, strict=True)]


def empty(columns: Columns, cfg: CleaningConfig) -> Verdicts:
    """A side without any letter or digit."""
    return first_fault(
        [
            [None if any(c.isalnum() for c in t) else f"{s} has no letter or digit" for t in columns[s]]
            for s, _ in sides(columns)
        ]
    )


def length(columns: Columns, cfg: CleaningConfig) -> Verdicts:
    """A side with fewer than ``min_chars`` or more than ``max_chars`` characters."""
    return first_fault(
        [
            [
                None if cfg.min_chars <= len(t) <= cfg.max_chars else f"{s} has {len(t)} characters"
                for t in columns[s]
            ]
            for s, _ in sides(columns)
        ]
    )


def ratio(columns: Columns, cfg: CleaningConfig) -> Verdicts:
    """Pairs whose sides' sizes differ by more than ``max_ratio``; sentences pass."""
    if "src" not in columns:
        return [None] * len(columns["text"])
    out: Verdicts = []
    for src, tgt in zip(columns["src"], columns["tgt"], strict=True):
        a, b = (len(x.encode("utf-8", "surrogatepass")) + _RATIO_GRACE for x in (src, tgt))
        value = max(a, b) / min(a, b)
        out.append(f"ratio {value:.1f}" if value > cfg.max_ratio else None)
    return out


def identical(columns: Columns, cfg: CleaningConfig) -> Verdicts:
    """Pairs whose sides are the same text but for case, width and punctuation at the ends."""
    if "src" not in columns:
        return [None] * len(columns["text"])
    return [
        "both sides are the same text" if fold(src).strip(_ENDS) == fold(tgt).strip(_ENDS) else None
        for src, tgt in zip(columns["src"], columns["tgt"], strict=True)
    ]
