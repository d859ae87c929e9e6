"""Scored pairs to weighted training pairs: the audit's threshold, pseudo-labels, and the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xalign_dist.config import PairsConfig
from xalign_dist.errors import DataError
from xalign_dist.pairs.write import WEIGHTED_PAIR
from xalign_dist.records import SCORED_PAIR, Float32, text_keys

KEPT = "kept"
BELOW_THRESHOLD = "below_threshold"
BELOW_MIN_CONFIDENCE = "below_min_confidence"
ALREADY_PARALLEL = "already_parallel"
ZERO_WEIGHT = "zero_weight"
NOT_USED = "mined_not_used"


@dataclass(slots=True)
class SelectionCounts:
    """How many pairs had which outcome: ``counts[src_lang, tgt_lang, origin, outcome]``.

    Outcomes: :data:`KEPT`, or the reason for which a pair was left out. Shards add up by ``+``.
    """

    counts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)

    def __add__(self, other: SelectionCounts) -> SelectionCounts:
        return SelectionCounts(self.counts + other.counts)

    def total(self, outcome: str | None = None) -> int:
        """Pairs with ``outcome``, or all."""
        return sum(n for key, n in self.counts.items() if outcome in (None, key[3]))

    def to_json(self) -> list[dict[str, Any]]:
        """One row each, sorted, as plain JSON types."""
        names = ("src_lang", "tgt_lang", "origin", "outcome")
        return [{**dict(zip(names, key, strict=True)), "pairs": n} for key, n in sorted(self.counts.items())]


class Selection(NamedTuple):
    """The pairs to train on (``WEIGHTED_PAIR`` columns) and what became of every pair."""

    pairs: pa.Table
    counts: SelectionCounts


def select_pairs(
    parallel: pa.Table,
    mined: pa.Table | None,
    thresholds: Mapping[tuple[str, str, str], float],
    cfg: PairsConfig,
    min_confidence: float,
) -> Selection:
    """Choose and weigh training pairs.

    Args:
        parallel: ``SCORED_PAIR`` rows of parallel corpora.
        mined: ``SCORED_PAIR`` rows of pseudo-labels, or None before the first mining.
        thresholds: least confidence by ``(src_lang, tgt_lang, source)``, from the audit. Used where
            ``cfg.filter_parallel``.
        cfg: ``pairs`` of the config.
        min_confidence: ``mining.min_confidence``, which a mined pair must exceed.

    A mined pair whose two texts are a kept parallel pair already, in either direction, is left out;
    so is a pair of weight zero, which would cost a forward pass and teach nothing.

    Raises:
        DataError: a confidence that is not in [0, 1], or a parallel group without a threshold.
    """
    confidence_N = _confidences(parallel, "parallel")
    outcome_N = np.full(parallel.num_rows, KEPT, dtype=object)
    if cfg.filter_parallel:
        outcome_N[confidence_N < _limits(parallel, thresholds)] = BELOW_THRESHOLD
    parts = [_weigh(parallel, confidence_N, outcome_N, cfg)]
    if mined is not None:
        confidence_N = _confidences(mined, "mined")
        outcome_N = np.full(mined.num_rows, KEPT if cfg.use_mined else NOT_USED, dtype=object)
        if cfg.use_mined:
            outcome_N[_known(mined, parts[0].pairs)] = ALREADY_PARALLEL
            outcome_N[confidence_N <= min_confidence] = BELOW_MIN_CONFIDENCE
        parts.append(_weigh(mined, confidence_N, outcome_N, cfg))
    counts = SelectionCounts()
    for part in parts:
        counts = counts + part.counts
    return Selection(pa.concat_tables([part.pairs for part in parts]), counts)


def require_pairs(selection: Selection) -> pa.Table:
    """The pairs to train on.

    Raises:
        DataError: there are none; says what became of them.
    """
    if selection.pairs.num_rows:
        return selection.pairs
    outcomes: Counter[str] = Counter()
    for key, pairs in selection.counts.counts.items():
        outcomes[key[3]] += pairs
    seen = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in outcomes.most_common()) or "none came in"
    raise DataError(
        f"no pair is left to train on: {seen}",
        "look at audit.json for why no pair is trusted; set pairs.use_confidence_as_weight=false where all "
        "confidences are zero, pairs.filter_parallel=false to keep what is below a threshold, or add corpora",
    )


def _confidences(table: pa.Table, name: str) -> Float32:
    confidence_N: Float32 = table["confidence"].cast(pa.float32()).to_numpy().astype(np.float32)
    bad = np.flatnonzero(~((confidence_N >= 0) & (confidence_N <= 1)))
    if bad.size:
        raise DataError(
            f"{name} pairs, row {bad[0]}: confidence {confidence_N[bad[0]]} is not in [0, 1]",
            "score the pairs again with `xalign score` or `xalign mine`",
        )
    return confidence_N


def _limits(table: pa.Table, thresholds: Mapping[tuple[str, str, str], float]) -> Float32:
    names = ["src_lang", "tgt_lang", "source"]
    groups = list(zip(*(table[name].to_pylist() for name in names), strict=True))
    missing = sorted({str(g) for g in groups if g not in thresholds})
    if missing:
        raise DataError(
            f"the audit has no threshold for {missing[0]} (src_lang, tgt_lang, source)",
            "score the pairs and their audit.json together, or set pairs.filter_parallel=false",
        )
    return np.array([thresholds[g] for g in groups], dtype=np.float32)


def _known(mined: pa.Table, kept: pa.Table) -> npt.NDArray[np.bool_]:
    known = set(_text_pairs(kept))
    return np.array([pair in known for pair in _text_pairs(mined)], dtype=bool)


def _text_pairs(table: pa.Table) -> list[tuple[int, int]]:
    src_N, tgt_N = (text_keys(table[name].to_pylist()) for name in ("src", "tgt"))
    low_N, high_N = np.minimum(src_N, tgt_N), np.maximum(src_N, tgt_N)
    return list(zip(low_N.tolist(), high_N.tolist(), strict=True))


def _weigh(
    table: pa.Table, confidence_N: Float32, outcome_N: npt.NDArray[np.object_], cfg: PairsConfig
) -> Selection:
    weight_N = confidence_N if cfg.use_confidence_as_weight else np.ones_like(confidence_N)
    outcome_N[(outcome_N == KEPT) & (weight_N == 0)] = ZERO_WEIGHT
    keys = zip(
        *(table[name].to_pylist() for name in ("src_lang", "tgt_lang", "origin")), outcome_N, strict=True
    )
    keep_N = outcome_N == KEPT
    kept = table.select(SCORED_PAIR.names).filter(pa.array(keep_N, pa.bool_()))
    pairs = kept.append_column(WEIGHTED_PAIR.field("weight"), pa.array(weight_N[keep_N], pa.float32()))
    return Selection(pairs.cast(WEIGHTED_PAIR), SelectionCounts(Counter(keys)))
