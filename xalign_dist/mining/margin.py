"""Margins of neighbour lists that came from all shards.

The margin is that of Artetxe & Schwenk (2019)::

    m(x, y) = cos(x, y) / ((mean cos(x, NN_K(x)) + mean cos(y, NN_K(y))) / 2)

Both means are over the merged lists, so the pairs found do not depend on the number of shards.
"""

from __future__ import annotations

import numpy as np

from xalign_dist.mining.knn import MISSING, Neighbours
from xalign_dist.records import Float32, Int64

# Encoders whose neighbours have no similarity at all would divide by zero.
LEAST_NEIGHBOURHOOD = 0.05


def neighbourhood_means(lists: Neighbours) -> Float32:
    """Mean cosine of the neighbours that exist, float32 ``[N]``; 0 for a row without any."""
    there = lists[1] != MISSING
    total = np.where(there, lists[0], 0).sum(axis=1, dtype=np.float64)
    return np.asarray(total / np.maximum(there.sum(axis=1), 1), np.float32)


def ratio(cosine: Float32, mean_src: Float32, mean_tgt: Float32) -> Float32:
    """The margin of the module's formula, of arrays that broadcast."""
    yardstick = (mean_src.astype(np.float64) + mean_tgt) / 2
    return np.asarray(cosine / np.maximum(yardstick, LEAST_NEIGHBOURHOOD), np.float32)


def list_margins(lists: Neighbours, own_mean_N: Float32, other_mean_M: Float32) -> Float32:
    """Margin of each row with each of its neighbours, float32 ``[N, K]``; -inf where there is none."""
    scores, ids = lists
    there = ids != MISSING
    margin = ratio(np.where(there, scores, 0), own_mean_N[:, None], other_mean_M[np.where(there, ids, 0)])
    return np.where(there, margin, np.float32(-np.inf)).astype(np.float32)


def best_of(margin_NK: Float32, id_NK: Int64, left_out_N: Int64 | None = None) -> tuple[Float32, Int64]:
    """Largest margin of each row and the neighbour it belongs to; ties go to the lower neighbour.

    Args:
        margin_NK: float32, -inf where there is no neighbour.
        id_NK: int64 rows of the other side.
        left_out_N: a neighbour of each row that is treated as absent. None: none.

    Returns:
        float32 ``[N]`` and int64 ``[N]``; -inf and :data:`MISSING` for a row without neighbours.
    """
    if left_out_N is not None:
        margin_NK = np.where(id_NK == left_out_N[:, None], np.float32(-np.inf), margin_NK)
    best = margin_NK.max(axis=1, initial=-np.inf)
    tied = (margin_NK == best[:, None]) & np.isfinite(margin_NK)
    row = np.where(tied, id_NK, np.iinfo(np.int64).max).min(axis=1, initial=np.iinfo(np.int64).max)
    return best, np.where(np.isfinite(best), row, MISSING)
