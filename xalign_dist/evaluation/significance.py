"""Bootstrap intervals, paired permutation tests, Holm's correction; seeds are in :mod:`.seeds`.

Items that stand or fall together (one message in eleven languages, both directions of one
pair) share a cluster id and are resampled as one; resampling items as if they were
independent would give intervals that are too narrow. Macro averages are means over language
pairs of each pair's metric, resampled jointly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from statsmodels.stats.multitest import multipletests

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Float64, ItemScores, Reduce, cluster_sums, reduce_sums
from xalign_dist.records import Int64

# Resamples are drawn in slices of at most this many entries (clusters x resamples).
_SLICE_ENTRIES = 1_500_000


def bootstrap_interval(
    parts: Sequence[ItemScores], *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean over ``parts`` of each part's metric.

    Clusters are drawn with replacement (Efron & Tibshirani 1993, ch. 8). One part of
    independent items under ``mean`` is ``scipy.stats.bootstrap(..., method="percentile")``.

    Args:
        parts: one per language pair; one alone gives that pair's own interval.
        resamples: bootstrap resamples.
        confidence: coverage, e.g. 0.95.
        seed: of the resampling.

    Raises:
        DataError: no items.
    """
    sums_CLK = cluster_tables(parts)
    draws_B1 = bootstrap_draws([sums_CLK], parts[0].reduce, resamples, seed)
    return percentile_interval(draws_B1[:, 0], confidence)


def paired_interval(
    ours: Sequence[ItemScores],
    theirs: Sequence[ItemScores],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of ``ours - theirs`` on the same items: both are resampled with the same draws.

    Raises:
        DataError: the two do not have the same clusters.
    """
    a_CLK, b_CLK = _paired_sums(ours, theirs)
    draws_B2 = bootstrap_draws([a_CLK, b_CLK], ours[0].reduce, resamples, seed)
    return percentile_interval(draws_B2[:, 0] - draws_B2[:, 1], confidence)


def paired_permutation(
    ours: Sequence[ItemScores],
    theirs: Sequence[ItemScores],
    *,
    permutations: int = 2000,
    seed: int = 0,
    finest: int = 0,
) -> float:
    """Two-sided p-value that the two models are exchangeable on each cluster of items.

    Under the null the names of the models may be swapped cluster by cluster (Fisher 1935;
    ``scipy.stats.permutation_test(permutation_type="samples")`` for independent items).
    ``p = (1 + #{|T*| >= |T|}) / (1 + permutations)``; all 2^C swaps are taken where that is no
    more than ``permutations``, and then p is exact. Identical results give p = 1.

    Args:
        ours: one per language pair.
        theirs: the baseline's, on the same clusters.
        permutations: swaps drawn.
        seed: of the draws.
        finest: a p that ``permutations`` swaps cannot tell from 0 (ten or fewer as extreme) is
            drawn afresh with this many: corrected over m tests, p cannot fall under
            ``m / permutations``.

    Raises:
        DataError: the two do not have the same clusters.
    """
    a_CLK, b_CLK = _paired_sums(ours, theirs)
    differs_C = (a_CLK != b_CLK).any(axis=(1, 2))
    if not differs_C.any():
        return 1.0
    if differs_C.sum() < 31 and 2 ** int(differs_C.sum()) <= permutations:
        extreme, total = _count_extreme(a_CLK, b_CLK, ours[0].reduce, _all_signs(int(differs_C.sum())))
        return extreme / total
    for draws in (permutations, finest):
        signs = _random_signs(int(differs_C.sum()), draws, seed)
        extreme, total = _count_extreme(a_CLK, b_CLK, ours[0].reduce, signs)
        if extreme > 10 or finest <= permutations:
            break
    return (1 + extreme) / (1 + total)


def _count_extreme(
    a_CLK: Float64, b_CLK: Float64, reduce: Reduce, signs: Iterator[Float64]
) -> tuple[int, int]:
    """How many swaps give a difference as large as the observed one, out of how many."""
    differs_C = (a_CLK != b_CLK).any(axis=(1, 2))
    middle_LK = (a_CLK + b_CLK).sum(axis=0) / 2
    half_CLK = (a_CLK - b_CLK)[differs_C] / 2
    flat = half_CLK.reshape(len(half_CLK), -1)
    observed = float(np.abs(mean_metric(a_CLK.sum(axis=0), reduce) - mean_metric(b_CLK.sum(axis=0), reduce)))
    # Equal up to rounding counts as equal: sums in another order differ in the last bits.
    limit = observed - 1e-12 * max(1.0, observed)
    extreme = total = 0
    for signs_PC in signs:
        shift_PLK = (signs_PC @ flat).reshape(-1, *half_CLK.shape[1:])
        statistic_P = mean_metric(middle_LK + shift_PLK, reduce) - mean_metric(middle_LK - shift_PLK, reduce)
        extreme += int((np.abs(statistic_P) >= limit).sum())
        total += len(signs_PC)
    return extreme, total


def holm(p_values: Sequence[float]) -> Float64:
    """Holm's (1979) corrected p-values, family-wise, float64 in the order given (statsmodels)."""
    if not len(p_values):
        return np.zeros(0)
    return np.asarray(multipletests(np.asarray(p_values, np.float64), method="holm")[1], dtype=np.float64)


def two_sided_p(draws_B: Float64, observed: float) -> float:
    """How often draws that are centred on ``observed`` lie as far from it as 0 does, never 0 itself."""
    extreme = int((np.abs(draws_B - observed) >= abs(observed) - 1e-12).sum())
    return (1 + extreme) / (1 + len(draws_B))


def percentile_interval(draws: Float64, confidence: float) -> tuple[float, float]:
    """The central ``confidence`` share of the draws, as (low, high)."""
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def cluster_tables(parts: Sequence[ItemScores]) -> Float64:
    """Sums by cluster, ``[C, L, K]``, of L language pairs.

    Raises:
        DataError: a language pair has no items.
    """
    if not parts or any(len(p) == 0 for p in parts):
        raise DataError("an interval over no items", "give each language pair at least one item")
    return cluster_sums(parts)


def same_items(ours: Sequence[ItemScores], theirs: Sequence[ItemScores]) -> bool:
    """Whether two models have scores of the same clusters in the same language pairs."""
    return len(ours) == len(theirs) and all(
        a.reduce == b.reduce and np.array_equal(np.unique(a.clusters_N), np.unique(b.clusters_N))
        for a, b in zip(ours, theirs, strict=True)
    )


def _paired_sums(ours: Sequence[ItemScores], theirs: Sequence[ItemScores]) -> tuple[Float64, Float64]:
    if not same_items(ours, theirs):
        raise DataError("two models were not measured on the same items", "evaluate both on one suite")
    return cluster_tables(ours), cluster_tables(theirs)


def mean_metric(sums_LK: Float64, reduce: Reduce) -> Float64:
    """Mean over language pairs, ``[..., L, K]`` -> ``[...]``; pairs without items are left out."""
    metric = reduce_sums(sums_LK, reduce)
    present = np.isfinite(metric)
    count = np.maximum(present.sum(axis=-1), 1)
    mean = np.where(present, metric, 0.0).sum(axis=-1) / count
    return np.asarray(np.where(present.any(axis=-1), mean, np.nan))


def bootstrap_draws(tables: Sequence[Float64], reduce: Reduce, resamples: int, seed: int) -> Float64:
    """The mean metric of each ``[C, L, K]`` table under the same draws of clusters, ``[B, tables]``."""
    clusters = len(tables[0])
    flat_CX = np.concatenate([t.reshape(clusters, -1) for t in tables], axis=1)
    width = flat_CX.shape[1] // len(tables)
    out = []
    for number, size in enumerate(_slices(resamples, clusters)):
        sums_BX = _resample_counts(seed, number, size, clusters) @ flat_CX
        shape = (size, *tables[0].shape[1:])
        columns = [sums_BX[:, i * width : (i + 1) * width].reshape(shape) for i in range(len(tables))]
        out.append(np.stack([mean_metric(c, reduce) for c in columns], axis=1))
    return np.concatenate(out)


@lru_cache(maxsize=8)
def _resample_counts(seed: int, number: int, size: int, clusters: int) -> Float64:
    """How often each cluster is drawn in each of ``size`` resamples, ``[size, C]``.

    Remembered: the metrics of one task have the same clusters, and drawing is most of the cost.
    """
    picked: Int64 = np.random.default_rng([seed, number]).integers(0, clusters, (size, clusters))
    picked += np.arange(size)[:, None] * clusters
    counts = np.bincount(picked.ravel(), minlength=size * clusters).reshape(size, clusters)
    counts_BC = counts.astype(np.float64)
    counts_BC.flags.writeable = False
    return counts_BC


def _random_signs(width: int, total: int, seed: int) -> Iterator[Float64]:
    rng = np.random.default_rng(seed)
    for size in _slices(total, width):
        # Eight signs per random byte: drawing integers one by one takes most of the test's time.
        drawn = np.frombuffer(rng.bytes(size * ((width + 7) // 8)), np.uint8).reshape(size, -1)
        yield np.unpackbits(drawn, axis=1, count=width).astype(np.float64) * 2 - 1


def _all_signs(width: int) -> Iterator[Float64]:
    codes = np.arange(2**width)[:, None] >> np.arange(width)[None, :]
    yield (codes & 1).astype(np.float64) * 2 - 1


def _slices(total: int, width: int) -> Iterator[int]:
    step = max(1, _SLICE_ENTRIES // max(width, 1))
    for start in range(0, total, step):
        yield min(step, total - start)
