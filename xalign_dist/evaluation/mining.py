"""Mined pairs against a gold set."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Float64, ItemScores
from xalign_dist.records import text_key

P = TypeVar("P", bound=Hashable)


class MiningScores(NamedTuple):
    """Precision, recall and F1 of the pairs over the cut, and the precision they claim."""

    precision: float
    recall: float
    f1: float
    predicted_precision: float
    mined: int
    gold: int


def mining_scores(
    mined: Sequence[tuple[Hashable, Hashable]],
    gold: Collection[tuple[Hashable, Hashable]],
    confidence: Sequence[float] | Float64 | None = None,
    cut: float = 0.5,
) -> MiningScores:
    """Compare mined pairs with the gold set.

    Args:
        mined: (source, target) by id or by text key; a pair named twice counts once.
        gold: the true pairs, in the same terms.
        confidence: of each mined pair. Pairs at or below ``cut`` are left out; the mean of the
            rest is the predicted precision. None: all count, predicted precision is NaN.
        cut: confidence that a pair must exceed.

    Returns:
        Scores; precision is NaN with nothing mined, recall NaN with nothing to find.

    Raises:
        DataError: as many confidences as pairs are needed.
    """
    kept = _kept(mined, confidence, cut)
    right = len(set(gold) & kept.keys())
    precision = right / len(kept) if kept else float("nan")
    recall = right / len(set(gold)) if gold else float("nan")
    total = len(kept) + len(set(gold))
    predicted = float(np.mean(list(kept.values()))) if kept and confidence is not None else float("nan")
    return MiningScores(
        precision, recall, 2 * right / total if total else float("nan"), predicted, len(kept), len(set(gold))
    )


def mining_items(
    mined: Sequence[tuple[str, str]],
    gold: Collection[tuple[str, str]],
    confidence: Sequence[float] | Float64 | None = None,
    cut: float = 0.5,
    sources: Collection[str] = (),
) -> dict[str, ItemScores]:
    """Per source sentence: what is needed to resample precision, recall and F1.

    Args:
        mined: (source id, target id).
        gold: the true pairs.
        confidence: as in :func:`mining_scores`.
        cut: as in :func:`mining_scores`.
        sources: every source id, so that two models have the same items even where one mined
            nothing. Those that occur in ``mined`` or ``gold`` are added.
    """
    kept, truth = set(_kept(mined, confidence, cut)), set(gold)
    ids = sorted({*sources, *(s for s, _ in kept), *(s for s, _ in truth)})
    row = {s: i for i, s in enumerate(ids)}
    found_N, truth_N, right_N = np.zeros(len(ids)), np.zeros(len(ids)), np.zeros(len(ids))
    for pairs, column in ((kept, found_N), (truth, truth_N), (kept & truth, right_N)):
        for source, _ in pairs:
            column[row[source]] += 1
    clusters = np.fromiter((text_key(s) for s in ids), np.int64, len(ids))
    return {
        "precision": ItemScores.mean(right_N, clusters, found_N),
        "recall": ItemScores.mean(right_N, clusters, truth_N),
        "f1": ItemScores.f1(right_N, found_N, right_N, truth_N, clusters),
    }


def _kept(mined: Sequence[P], confidence: Sequence[float] | Float64 | None, cut: float) -> dict[P, float]:
    if confidence is None:
        return dict.fromkeys(mined, 1.0)
    if len(confidence) != len(mined):
        raise DataError(f"{len(mined)} mined pairs, {len(confidence)} confidences", "give one for each pair")
    return {pair: float(c) for pair, c in zip(mined, confidence, strict=True) if c > cut}
