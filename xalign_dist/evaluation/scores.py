"""What a task gives back: values with the per-item sums that intervals and tests need.

Every metric with a test is a smooth function of sums over items (a mean is
``sum(value) / sum(weight)``, F1 is made of four counts), so that resampling items is one
matrix product over sums, whatever the metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from xalign_dist.records import Int64

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Reduce = Literal["mean", "f1"]

MIN_TEST_ITEMS = 10


@dataclass(frozen=True, slots=True)
class ItemScores:
    """Per-item sums behind one metric of one model on one language pair.

    Attributes:
        sums_NK: what is summed over items. ``mean``: K = 2, value and weight. ``f1``:
            K = 4, right among answers, answers, right among gold, gold.
        clusters_N: items with one id stand or fall together (one message in many
            languages, both directions of one pair); they are resampled as one.
        reduce: how sums become the metric.
    """

    sums_NK: Float64
    clusters_N: Int64
    reduce: Reduce = "mean"

    @staticmethod
    def mean(
        values: npt.ArrayLike, clusters: Int64 | None = None, weights: npt.ArrayLike | None = None
    ) -> ItemScores:
        """Items whose metric is ``sum(values) / sum(weights)``; weights of 1 by default.

        ``values`` are already multiplied by their weight; ``clusters`` None: each item alone.
        """
        v_N = np.asarray(values, dtype=np.float64)
        w_N = np.ones_like(v_N) if weights is None else np.asarray(weights, dtype=np.float64)
        ids = np.arange(len(v_N), dtype=np.int64) if clusters is None else clusters
        return ItemScores(np.stack([v_N, w_N], axis=1), ids)

    @staticmethod
    def f1(
        right_answers: npt.ArrayLike,
        answers: npt.ArrayLike,
        right_gold: npt.ArrayLike,
        gold: npt.ArrayLike,
        clusters: Int64 | None = None,
    ) -> ItemScores:
        """Items whose metric is the harmonic mean of the summed precision and recall."""
        columns = [np.asarray(c, dtype=np.float64) for c in (right_answers, answers, right_gold, gold)]
        ids = np.arange(len(columns[0]), dtype=np.int64) if clusters is None else clusters
        return ItemScores(np.stack(columns, axis=1), ids, "f1")

    def __len__(self) -> int:
        return len(self.clusters_N)

    @property
    def value(self) -> float:
        """The metric over all items; NaN without items."""
        return float(reduce_sums(self.sums_NK.sum(axis=0), self.reduce))

    @property
    def values(self) -> Float64:
        """The metric of each item alone, float64 ``[N]``; NaN where it is not defined."""
        return reduce_sums(self.sums_NK, self.reduce)


@dataclass(frozen=True, slots=True)
class Score:
    """One value of one task; ``items`` None: no interval and no test is defined for it."""

    metric: str
    src_lang: str
    tgt_lang: str
    value: float
    n: int
    items: ItemScores | None = None

    @staticmethod
    def of(metric: str, src_lang: str, tgt_lang: str, items: ItemScores) -> Score:
        """A score whose value is that of its items."""
        return Score(metric, src_lang, tgt_lang, items.value, len(items), items)


def reduce_sums(sums: Float64, reduce: Reduce) -> Float64:
    """The metric from sums ``[..., K]`` -> ``[...]``; NaN where nothing was summed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if reduce == "mean":
            return np.asarray(sums[..., 0] / sums[..., 1])
        right, answers, found, gold = np.moveaxis(sums, -1, 0)
        precision = np.where(answers > 0, right / answers, 0.0)
        recall = np.where(gold > 0, found / gold, 0.0)
        total = precision + recall
        f1 = np.where(total > 0, 2 * precision * recall / total, 0.0)
        return np.asarray(np.where((answers > 0) | (gold > 0), f1, np.nan))


def cluster_sums(parts: Sequence[ItemScores]) -> Float64:
    """Sums per cluster of several language pairs, float64 ``[C, L, K]``.

    Clusters are shared among the parts: one that occurs in three languages is one row.
    """
    all_ids = np.concatenate([p.clusters_N for p in parts]) if parts else np.zeros(0, np.int64)
    unique, codes = np.unique(all_ids, return_inverse=True)
    width = parts[0].sums_NK.shape[1] if parts else 2
    out_CLK = np.zeros((len(unique), len(parts), width))
    start = 0
    for column, part in enumerate(parts):
        rows = codes[start : start + len(part)]
        np.add.at(out_CLK[:, column, :], rows, part.sums_NK)
        start += len(part)
    return out_CLK
