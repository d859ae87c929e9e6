"""The shape of the shared space: alignment, uniformity, hubness, isometry, language probe."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from scipy.stats import skew
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from xalign_dist.errors import DataError
from xalign_dist.evaluation.jackknife import hubness_items, isometry_items, uniformity_items
from xalign_dist.evaluation.scores import Float64
from xalign_dist.evaluation.vectors import BLOCK_ROWS, topk, unit_rows
from xalign_dist.records import Float32, Int64

SAMPLE_ROWS = 1000


class GeometryScores(NamedTuple):
    """See the functions of these names, and ``jackknife`` for what single pairs add to three of them.

    Arrays ``_N`` are per pair, ``_K`` of the sampled pairs, whose numbers are ``sampled_K``. ``probe_K``
    is empty where it is not defined.
    """

    alignment_N: Float64
    uniformity: float
    uniformity_K: Float64
    hubness: float
    hubness_N: Float64
    isometry: float
    isometry_K: Float64
    probe_K: Float64
    sampled_K: Int64


def geometry(src_ND: Float32, tgt_ND: Float32, groups_N: Int64, *, seed: int = 0) -> GeometryScores:
    """All of this module over row-by-row translations.

    Args:
        src_ND: one side.
        tgt_ND: the other, row i translating row i.
        groups_N: rows of one group never stand on both sides of a fold of the probe.
        seed: of the sample taken where there are more than ``SAMPLE_ROWS`` rows.

    Raises:
        DataError: fewer than three pairs or unequal sides. ModelError: NaN.
    """
    x_ND, y_ND = unit_rows(src_ND, "source side"), unit_rows(tgt_ND, "target side")
    if len(x_ND) != len(y_ND) or len(x_ND) < 3:
        raise DataError(
            f"geometry over {len(x_ND)} and {len(y_ND)} rows", "give at least three pairs, row by row"
        )
    picked = np.random.default_rng(seed).permutation(len(x_ND))[:SAMPLE_ROWS]
    sample = x_ND[picked], y_ND[picked]
    return GeometryScores(
        alignment(x_ND, y_ND),
        uniformity(np.concatenate(sample)),
        uniformity_items(*sample),
        hubness(x_ND, y_ND),
        hubness_items(x_ND, y_ND),
        isometry(*sample),
        isometry_items(*sample),
        language_probe(*sample, groups_N[picked]),
        picked,
    )


def alignment(src_ND: Float32, tgt_ND: Float32) -> Float64:
    """Squared distance of each pair of unit vectors, in [0, 4] (Wang & Isola 2020, alpha = 2)."""
    return np.asarray(((src_ND - tgt_ND).astype(np.float64) ** 2).sum(axis=1))


def uniformity(rows_ND: Float32, t: float = 2.0) -> float:
    """``log mean_{i<j} exp(-t ||x_i - x_j||^2)`` of unit vectors; lower is more spread out."""
    total = []
    for start in range(0, len(rows_ND), BLOCK_ROWS):
        block = rows_ND[start : start + BLOCK_ROWS]
        distance = 2.0 - 2.0 * (block @ rows_ND.T).astype(np.float64)
        upper = np.arange(start, start + len(block))[:, None] < np.arange(len(rows_ND))[None, :]
        if upper.any():
            total.append(logsumexp(-t * distance[upper]))
    pairs = len(rows_ND) * (len(rows_ND) - 1) / 2
    return float(logsumexp(total) - np.log(pairs))


def hubness(src_ND: Float32, tgt_ND: Float32, k: int = 10) -> float:
    """Skewness of how often a target is among the k nearest of the sources (Radovanovic 2010).

    0: every target is found alike; large: few targets (hubs) are near everything.
    NaN when all are found equally often (k no smaller than the number of rows).
    """
    _, index = topk(src_ND, tgt_ND, k)
    counts = np.bincount(index.ravel(), minlength=len(tgt_ND))
    return float(skew(counts)) if counts.std() > 0 else float("nan")


def isometry(src_ND: Float32, tgt_ND: Float32) -> float:
    """Pearson correlation of the two sides' own similarities (RSIM, Vulic et al. 2020).

    1: the sides have the same shape up to rotation, translated or not. NaN for a collapsed side.
    """
    upper = np.triu_indices(len(src_ND), 1)
    a, b = (np.asarray((m @ m.T)[upper], np.float64) for m in (src_ND, tgt_ND))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 1e-9 * len(a) else float("nan")


def language_probe(src_ND: Float32, tgt_ND: Float32, groups_N: Int64, folds: int = 5) -> Float64:
    """Share of each pair's two texts whose language a logistic regression tells, float64 ``[N]``.

    Cross-validated, translations in one fold, so that nothing is learnt from a text's partner. Mean 0.5:
    the language cannot be read off the vector; 1: it can. Empty with fewer than two groups.
    """
    folds = min(folds, len(np.unique(groups_N)))
    if folds < 2:
        return np.zeros(0)
    rows = np.concatenate([src_ND, tgt_ND])
    label = np.repeat([0, 1], [len(src_ND), len(tgt_ND)])
    with threadpool_limits(1):
        guessed = cross_val_predict(
            LogisticRegression(C=10.0, max_iter=1000),
            rows,
            label,
            groups=np.concatenate([groups_N, groups_N]),
            cv=GroupKFold(folds),
        )
    return np.asarray((guessed == label).reshape(2, -1).mean(axis=0))
