"""Scores of single pairs for measures of a whole space, so that they have intervals and tests.

Uniformity, hubness and isometry are no means over pairs. What one pair adds is its pseudo-value
``n T - (n - 1) T_i``, where ``T_i`` is the measure without pair i (Tukey 1958; Efron & Tibshirani 1993,
chapter 11). Their mean is the measure up to its bias of order 1/n, which is taken off here, so that
it is the measure; their spread is that of its estimate, or somewhat more, never less on average
(Efron & Stein 1981). Every ``T_i`` is computed from sums, at the cost of the measure itself.
"""

from __future__ import annotations

import numpy as np

from xalign_dist.evaluation.scores import Float64
from xalign_dist.evaluation.vectors import topk
from xalign_dist.records import Float32, Int64


def uniformity_items(src_ND: Float32, tgt_ND: Float32, t: float = 2.0) -> Float64:
    """Pseudo-values of ``geometry.uniformity`` of both sides' rows together, float64 ``[N]``.

    Without pair i, both its rows are out. NaN for fewer than two pairs.
    """
    rows, n = np.concatenate([src_ND, tgt_ND]), len(src_ND)
    kernel = np.exp(-t * (2.0 - 2.0 * (rows @ rows.T).astype(np.float64)))
    np.fill_diagonal(kernel, 0.0)
    row_sums = kernel.sum(axis=1)
    gone_N = row_sums[:n] + row_sums[n:] - np.diagonal(kernel, n)
    total, left = row_sums.sum() / 2, 2 * n - 2
    with np.errstate(divide="ignore", invalid="ignore"):
        without_N = np.log((total - gone_N) / (left * (left - 1) / 2))
        return _pseudo_values(float(np.log(total / (n * (2 * n - 1)))), without_N)


def isometry_items(src_ND: Float32, tgt_ND: Float32) -> Float64:
    """Pseudo-values of ``geometry.isometry``, float64 ``[N]``; NaN for a collapsed side."""
    a, b = ((m @ m.T).astype(np.float64) for m in (src_ND, tgt_ND))
    upper = np.triu_indices(len(a), 1)
    # Correlation does not change, and sums of squares lose nothing to a large mean.
    a, b = a - a[upper].mean(), b - b[upper].mean()
    products = [np.ones_like(a), a, b, a * a, b * b, a * b]
    for matrix in products:
        np.fill_diagonal(matrix, 0.0)
    by_row = np.stack([matrix.sum(axis=1) for matrix in products])
    whole = by_row.sum(axis=1) / 2
    return _pseudo_values(float(_correlation(whole)), _correlation(whole[:, None] - by_row))


def hubness_items(src_ND: Float32, tgt_ND: Float32, k: int = 10) -> Float64:
    """Pseudo-values of ``geometry.hubness``, float64 ``[N]``; NaN for fewer than ``k + 2`` pairs.

    Without pair i its query finds nothing, its target is not found, and who had found it finds its next.
    """
    n = len(src_ND)
    if n < k + 2:
        return np.full(n, np.nan)
    _, index = topk(src_ND, tgt_ND, k + 1)
    found, following = index[:, :k], index[:, k]
    counts = np.bincount(found.ravel(), minlength=n)
    askers: list[list[int]] = [[] for _ in range(n)]
    for query, targets in enumerate(found.tolist()):
        for target in targets:
            askers[target].append(query)
    without_N = np.empty(n)
    for i in range(n):
        left = counts.copy()
        left[found[i]] -= 1
        np.add.at(left, following[[q for q in askers[i] if q != i]], 1)
        without_N[i] = _skewness(np.delete(left, i))
    return _pseudo_values(_skewness(counts), without_N)


def _pseudo_values(whole: float, without_N: Float64) -> Float64:
    values = whole - (len(without_N) - 1) * (without_N - whole)
    return np.asarray(values - values.mean() + whole)


def _correlation(sums: Float64) -> Float64:
    """Pearson's from sums of 1, a, b, aa, bb, ab, ``[6, ...]`` -> ``[...]``."""
    n, a, b, aa, bb, ab = sums
    scale = np.maximum(n * aa - a * a, 0.0) * np.maximum(n * bb - b * b, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # As in geometry.isometry: what is left of a collapsed side is rounding.
        return np.where(scale > (1e-9 * n * n) ** 2, (n * ab - a * b) / np.sqrt(scale), np.nan)


def _skewness(counts: Int64) -> float:
    centred = counts - counts.mean()
    spread = (centred**2).mean()
    return float((centred**3).mean() / spread**1.5) if spread > 0 else float("nan")
