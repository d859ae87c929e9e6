"""Exact k-nearest neighbours in numpy, and the merge of lists from shards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.records import Float32, Int64

MISSING = -1
"""Row number of a neighbour that does not exist."""

MISSING_SCORE = np.float32(-np.inf)
"""Score beside :data:`MISSING`. Only the row number decides whether a neighbour exists."""

Neighbours = tuple[Float32, Int64]
"""Scores ``[N, K]``, best first, and rows ``[N, K]``; :data:`MISSING` where there are fewer than K."""

UNIT_TOLERANCE = 1e-3
SAME_SCORE = 1e-6
QUERY_BLOCK = 8192


def check_vectors(vectors_ND: Float32, name: str, dim: int | None = None) -> Float32:
    """``vectors_ND`` as contiguous float32, if it can be searched.

    Args:
        vectors_ND: ``[N, D]``, unit rows.
        name: what they are, for errors.
        dim: D that is expected. None: any.

    Raises:
        DataError: not two-dimensional, wrong D, a row that is NaN, infinite, zero or not of unit length.
    """
    vectors = np.ascontiguousarray(vectors_ND, dtype=np.float32)
    if vectors.ndim != 2:
        raise DataError(f"{name}: vectors of shape {vectors.shape}", "give a matrix [rows, dimensions]")
    if dim is not None and vectors.shape[1] != dim:
        raise DataError(
            f"{name}: {vectors.shape[1]} dimensions, the other side has {dim}", "embed both with one encoder"
        )
    # Not np.linalg.norm: its copy of the squares would double the memory of a shard.
    length_N = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    bad = np.flatnonzero(~(np.abs(length_N - 1) <= UNIT_TOLERANCE))
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{name}: {len(bad)} vectors are not of unit length, first: row {row} ({length_N[row]:.4g})",
            "remove texts that the encoder cannot embed, and normalise the vectors",
        )
    return vectors


def exact_knn(query_ND: Float32, base_MD: Float32, k: int, block: int = 1024) -> Neighbours:
    """The ``k`` rows of ``base_MD`` with the largest inner product with each query.

    Ties go to the lower row. The slow twin of every index, and fast enough for some ten
    thousand rows.

    Args:
        query_ND: float32 ``[N, D]`` unit vectors.
        base_MD: float32 ``[M, D]`` unit vectors.
        k: neighbours; above M the missing places hold :data:`MISSING`.
        block: queries compared at once; memory is ``block * M`` floats.

    Raises:
        DataError: k below 1, or vectors that :func:`check_vectors` refuses.
    """
    if k < 1:
        raise DataError(f"{k} neighbours asked for", "set neighbours to at least 1")
    base = check_vectors(base_MD, "base")
    query = check_vectors(query_ND, "query", base.shape[1])
    scores = np.full((len(query), k), MISSING_SCORE, np.float32)
    ids = np.full((len(query), k), MISSING, np.int64)
    if len(base) == 0:
        return scores, ids
    for start in range(0, len(query), block):
        rows = slice(start, start + block)
        top, at = top_k(query[rows] @ base.T, k)
        scores[rows, : top.shape[1]], ids[rows, : top.shape[1]] = top, at
    return scores, ids


def block_bounds(rows: int, block: int = QUERY_BLOCK) -> list[tuple[int, int]]:
    """``(start, stop)`` of consecutive blocks over ``rows`` rows."""
    return [(at, min(at + block, rows)) for at in range(0, rows, block)]


def streamed_knn(query_ND: Float32, base_MD: Float32, k: int, rows: int = 65_536) -> Neighbours:
    """:func:`exact_knn` over a base that is read ``rows`` at a time, from a file mapped into memory."""
    parts = []
    for start, stop in block_bounds(len(base_MD), rows):
        scores, ids = exact_knn(query_ND, base_MD[start:stop], k)
        parts.append((scores, np.where(ids == MISSING, MISSING, ids + start)))
        parts = [merge_topk(parts, k)]
    return parts[0] if parts else exact_knn(query_ND, base_MD, k)


def recall_of(found: Neighbours, exact: Neighbours) -> float:
    """recall@K: the share of the exact lists that was found; any neighbour as near as the K-th counts."""
    there = exact[1] != MISSING
    least_N = np.where(there, exact[0], np.inf).min(axis=1, initial=np.inf)
    good = (found[1] != MISSING) & (found[0] >= least_N[:, None] - SAME_SCORE)
    hits = np.minimum(good.sum(axis=1), there.sum(axis=1)).sum()
    return float(hits / max(there.sum(), 1))


def top_k(sim_NM: Float32, k: int) -> Neighbours:
    """The largest ``min(k, M)`` of each row, best first, ties to the lower column."""
    k = min(k, sim_NM.shape[1])
    if k < sim_NM.shape[1]:
        # Every column at least as good as the k-th best: argpartition alone breaks ties by chance.
        least_N = np.partition(sim_NM, -k, axis=1)[:, -k]
        ties = int((sim_NM >= least_N[:, None]).sum(axis=1).max(initial=k))
        ids = np.argpartition(-sim_NM, min(ties, sim_NM.shape[1] - 1), axis=1)[:, :ties]
    else:
        ids = np.broadcast_to(np.arange(sim_NM.shape[1]), sim_NM.shape).copy()
    scores = np.take_along_axis(sim_NM, ids, axis=1)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1).astype(np.int64)


def merge_topk(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """The best ``k`` of several lists over disjoint rows, the same for any order of the lists.

    Args:
        parts: per shard, scores and GLOBAL rows ``[N, K_s]``; :data:`MISSING` is skipped.
        k: neighbours to keep.

    Returns:
        Scores and rows ``[N, k]``, ordered by (score descending, row ascending).

    Raises:
        DataError: no lists.
    """
    if not parts:
        raise DataError("no shard answered the search", "build at least one shard")
    scores = np.concatenate([p[0] for p in parts], axis=1).astype(np.float32)
    ids = np.concatenate([p[1] for p in parts], axis=1).astype(np.int64)
    # faiss gives 3.4e38 or -3.4e38 beside row -1, so the value may not be looked at.
    scores = np.where(ids == MISSING, MISSING_SCORE, scores)
    # Each list comes sorted, so that a stable sort by score is quick; ties in the wrong order are rare.
    order = np.argsort(-scores, axis=1, kind="stable")
    scores, ids = np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
    last_if_missing = np.where(ids == MISSING, np.iinfo(np.int64).max, ids)
    wrong = (scores[:, 1:] == scores[:, :-1]) & (last_if_missing[:, 1:] < last_if_missing[:, :-1])
    rows = np.flatnonzero(wrong.any(axis=1))
    if len(rows):
        order = np.lexsort((last_if_missing[rows], -scores[rows]), axis=1)
        ids[rows] = np.take_along_axis(ids[rows], order, axis=1)
    scores, ids = scores[:, :k], ids[:, :k]
    short = k - scores.shape[1]
    if short > 0:
        scores = np.pad(scores, ((0, 0), (0, short)), constant_values=MISSING_SCORE)
        ids = np.pad(ids, ((0, 0), (0, short)), constant_values=MISSING)
    return scores, ids
