"""Whether a second view of the same sentences names the same partner.

The second view (another layer, dropout, encoder) chooses among the neighbours of the first: it costs
no search of its own. On eval_mining that was as good as searching anew (mean distance to the best F1
.0062 against .0063, predicted precision off by .037 against .040).
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.mining.knn import MISSING, MISSING_SCORE, Neighbours, check_vectors
from xalign_dist.mining.match import Bool, View, find_candidates
from xalign_dist.records import Float32, Int64

BLOCK = 256
"""Rows compared at once: their neighbours' vectors (K of each) stay in the processor's cache."""


def agreement(second: View, src_C: Int64, tgt_C: Int64) -> Bool:
    """Whether source ``src_C[i]`` and target ``tgt_C[i]`` are each other's best in the second view too.

    Args:
        second: lists of the same rows under another layer, dropout or encoder.
        src_C: source rows.
        tgt_C: target rows.
    """
    pairs = find_candidates(second)
    partner = np.full(len(second.src.ids), -1, np.int64)
    partner[pairs.src] = pairs.tgt
    return np.asarray(partner[src_C] == tgt_C)


def rescored(lists: Neighbours, query_ND: Float32, base_MD: Float32) -> Neighbours:
    """The same neighbours with their cosines under other vectors; not ordered any more.

    Args:
        lists: of the first view, ``[N, K]``.
        query_ND: unit vectors of the second view of the rows that asked.
        base_MD: of the rows that ``lists`` names.

    Raises:
        DataError: not as many vectors as rows, or vectors that :func:`check_vectors` refuses.
    """
    query = check_vectors(query_ND, "second view")
    base = check_vectors(base_MD, "second view", query.shape[1])
    ids = lists[1]
    if len(query) != len(ids) or int(ids.max(initial=MISSING)) >= len(base):
        raise DataError("the second view has other rows than the first", "embed the same sentences")
    scores = np.empty(ids.shape, np.float32)

    def compare(at: int) -> None:
        rows = slice(at, at + BLOCK)
        near_BKD = base.take(np.maximum(ids[rows], 0), axis=0)
        np.einsum("bd,bkd->bk", query[rows], near_BKD, out=scores[rows])

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        deque(pool.map(compare, range(0, len(ids), BLOCK)), maxlen=0)
    return np.where(ids == MISSING, MISSING_SCORE, scores), ids
