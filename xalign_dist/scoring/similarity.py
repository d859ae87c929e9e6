"""Cosine and ratio margin of pairs, against the neighbours of both sides.

The margin (Artetxe & Schwenk 2019)::

    m(x, y) = cos(x, y) / ((mean cos(x, NN_K(x)) + mean cos(y, NN_K(y))) / 2)

takes out what a sentence has in common with everything (short texts, boilerplate), which
the bare cosine mistakes for translation.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.records import Float32, Int64

QUERY_ROWS = 1024

# Neighbours listed beyond K: a pair leaves out its own partner, a decoy also its stand-in.
SPARE = 2

# Encoders whose neighbours have no similarity at all would divide by zero.
LEAST_NEIGHBOURHOOD = 0.05


class PairScores(NamedTuple):
    """float32 ``[N]`` each: cosine in [-1, 1], and margin, about 1 for a random pair."""

    cosine_N: Float32
    margin_N: Float32


class Neighbourhood:
    """The neighbours of both sides of one block of pairs, found once and used for pairs and decoys.

    Args:
        src_ND: float32 ``[N, D]`` unit vectors; equal texts have equal vectors.
        tgt_ND: the same for the other side, row by row.
        k: neighbours in each mean, K of the margin.

    Raises:
        DataError: shapes differ, or a vector is not of unit length.
    """

    def __init__(self, src_ND: Float32, tgt_ND: Float32, k: int) -> None:
        check_pairs(src_ND, tgt_ND)
        self.k = k
        self.src_UD, self.src_key_N = _unique(src_ND)
        self.tgt_VD, self.tgt_key_N = _unique(tgt_ND)
        self._of_src = _nearest(self.src_UD, self.tgt_VD, k + SPARE)
        self._of_tgt = _nearest(self.tgt_VD, self.src_UD, k + SPARE)

    def scores(self, src_row_M: Int64, tgt_row_M: Int64) -> PairScores:
        """Cosine and margin of source row ``src_row_M[i]`` with target row ``tgt_row_M[i]``.

        Neighbours are unique vectors. Left out are the other half of the scored pair and the
        partner that each half has in the corpus, so that a decoy is treated like a pair whose
        translation is not there.
        """
        src, tgt = self.src_key_N[src_row_M], self.tgt_key_N[tgt_row_M]
        cosine = np.einsum("md,md->m", self.src_UD[src], self.tgt_VD[tgt])
        mean_src = self._mean(self._of_src, src, tgt, self.tgt_key_N[src_row_M])
        mean_tgt = self._mean(self._of_tgt, tgt, src, self.src_key_N[tgt_row_M])
        return PairScores(cosine, ratio_margin(cosine, mean_src, mean_tgt))

    def of_pairs(self, src_MD: Float32, tgt_MD: Float32) -> PairScores:
        """Cosine and margin of M further pairs, whose neighbours are this block's vectors.

        Left out of the neighbours is the other half of the pair, so that a pair of the block itself
        has the margin that :meth:`scores` gives it.
        """
        check_pairs(src_MD, tgt_MD)
        cosine = np.einsum("md,md->m", src_MD, tgt_MD)
        src, tgt = _look_up(self._src_places, src_MD), _look_up(self._tgt_places, tgt_MD)
        every = np.arange(len(cosine))
        mean_src = self._mean(_nearest(src_MD, self.tgt_VD, self.k + SPARE), every, tgt, tgt)
        mean_tgt = self._mean(_nearest(tgt_MD, self.src_UD, self.k + SPARE), every, src, src)
        return PairScores(cosine, ratio_margin(cosine, mean_src, mean_tgt))

    @cached_property
    def _src_places(self) -> dict[bytes, int]:
        return _places(self.src_UD)

    @cached_property
    def _tgt_places(self) -> dict[bytes, int]:
        return _places(self.tgt_VD)

    def nearest_other(self, src_row_M: Int64) -> Int64:
        """The unique target most like each source that is not its own; -1 where there is none."""
        id_MK = self._of_src[1][self.src_key_N[src_row_M]]
        usable = id_MK != self.tgt_key_N[src_row_M][:, None]
        first = np.take_along_axis(id_MK, usable.argmax(axis=1)[:, None], axis=1)[:, 0]
        return np.where(usable.any(axis=1), first, -1)

    def _mean(self, lists: tuple[Float32, Int64], row_M: Int64, out_M: Int64, partner_M: Int64) -> Float32:
        score_MK, id_MK = lists[0][row_M], lists[1][row_M]
        usable = (id_MK != out_M[:, None]) & (id_MK != partner_M[:, None])
        usable &= np.cumsum(usable, axis=1) <= self.k
        count = usable.sum(axis=1)
        total = np.where(usable, score_MK, 0).sum(axis=1)
        # Alone in its block: the pair is its own yardstick, and its margin is 1.
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def ratio_margin(cosine_M: Float32, mean_src_M: Float32, mean_tgt_M: Float32) -> Float32:
    """The margin of the module's formula; NaN means (no neighbour at all) give 1."""
    yardstick = np.maximum((mean_src_M + mean_tgt_M) / 2, LEAST_NEIGHBOURHOOD)
    margin = np.where(np.isnan(yardstick), 1.0, cosine_M / yardstick)
    return np.asarray(margin, np.float32)


def pair_scores(src_ND: Float32, tgt_ND: Float32, k: int, block: int = 8192) -> PairScores:
    """Cosine and margin of N pairs, ``block`` pairs at a time being each other's neighbourhood.

    Args:
        src_ND: float32 ``[N, D]`` unit vectors.
        tgt_ND: float32 ``[N, D]`` unit vectors; row i is the partner of row i.
        k: neighbours among the other side's unique vectors, the pair's own partner left out.
        block: pairs compared at once; blocks are made equal so that none is left tiny.

    Raises:
        DataError: shapes differ, or a vector is not of unit length.
    """
    check_pairs(src_ND, tgt_ND)
    parts = []
    for rows in equal_blocks(len(src_ND), block):
        own = np.arange(rows.stop - rows.start)
        parts.append(Neighbourhood(src_ND[rows], tgt_ND[rows], k).scores(own, own))
    if not parts:
        return PairScores(np.zeros(0, np.float32), np.zeros(0, np.float32))
    return PairScores(
        np.concatenate([p.cosine_N for p in parts]), np.concatenate([p.margin_N for p in parts])
    )


def equal_blocks(rows: int, block: int) -> list[slice]:
    """``rows`` cut into the fewest slices of at most ``block``, sizes differing by at most one."""
    edges = np.linspace(0, rows, -(-rows // block) + 1).astype(int) if rows else np.zeros(1, int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def check_pairs(src_ND: Float32, tgt_ND: Float32) -> None:
    """Refuse what cannot be scored.

    Raises:
        DataError: shapes differ, or a vector is NaN, zero or not of unit length.
    """
    if src_ND.ndim != 2 or src_ND.shape != tgt_ND.shape:
        raise DataError(
            f"source vectors {src_ND.shape} and target vectors {tgt_ND.shape} do not pair up",
            "embed both sides of every pair with one encoder",
        )
    for name, vectors in (("source", src_ND), ("target", tgt_ND)):
        length = np.linalg.norm(vectors, axis=1)
        bad = np.flatnonzero(~(np.abs(length - 1) < 1e-3))
        if len(bad):
            raise DataError(
                f"{len(bad)} {name} vectors are not of unit length,"
                f" first: row {bad[0]} ({length[bad[0]]:.4g})",
                "remove texts that the encoder cannot embed, and normalise the vectors",
            )


def _unique(vectors_ND: Float32) -> tuple[Float32, Int64]:
    """Distinct rows in order of first appearance, and the distinct row of each."""
    rows = np.ascontiguousarray(vectors_ND, dtype=np.float32)
    # Zero has two bit patterns; adding 0.0 leaves one.
    as_bytes = (rows + np.float32(0)).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))
    _, first, key = np.unique(as_bytes.ravel(), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rows[first[order]], rank[key].astype(np.int64)


def _places(base_UD: Float32) -> dict[bytes, int]:
    return {row.tobytes(): i for i, row in enumerate(base_UD + np.float32(0))}


def _look_up(places: dict[bytes, int], vectors_MD: Float32) -> Int64:
    """The row of the base that equals each vector; -1 where there is none."""
    plain_MD = np.ascontiguousarray(vectors_MD, dtype=np.float32) + np.float32(0)
    return np.fromiter((places.get(row.tobytes(), -1) for row in plain_MD), np.int64, len(plain_MD))


def _nearest(query_UD: Float32, base_VD: Float32, k: int) -> tuple[Float32, Int64]:
    """The ``min(k, V)`` most similar base rows of each query, best first."""
    k = min(k, len(base_VD))
    scores = np.empty((len(query_UD), k), np.float32)
    ids = np.empty((len(query_UD), k), np.int64)
    for start in range(0, len(query_UD), QUERY_ROWS):
        rows = slice(start, start + QUERY_ROWS)
        sim = query_UD[rows] @ base_VD.T
        top = np.argpartition(-sim, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(sim, top, axis=1), axis=1, kind="stable")
        ids[rows] = np.take_along_axis(top, order, axis=1)
        scores[rows] = np.take_along_axis(sim, ids[rows], axis=1)
    return scores, ids
