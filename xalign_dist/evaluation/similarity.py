"""Mean cosine of translations, of everything else, and the gap between the two."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Float64
from xalign_dist.evaluation.vectors import unit_rows
from xalign_dist.records import Float32, Int64


class SimilarityScores(NamedTuple):
    """Per pair: its cosine, and the mean cosine of its source with all other targets."""

    pairs_N: Float64
    nonpairs_N: Float64

    @property
    def gap_N(self) -> Float64:
        """Cosine of the pair minus that of the mismatches, per pair."""
        return self.pairs_N - self.nonpairs_N


def similarity(
    src_ND: Float32, tgt_ND: Float32, *, src_keys: Int64 | None = None, tgt_keys: Int64 | None = None
) -> SimilarityScores:
    """Cosine of every pair, and over ALL mismatches of its source (none sampled).

    The mean over mismatches is ``(x_i . sum_j y_j - copies) / (N - copies)``: exact in O(N D),
    without the N x N matrix. Rows with the same source or target text are no mismatches.

    Raises:
        DataError: sides of unequal length, fewer than two rows, or only copies of one text.
    """
    x_ND = unit_rows(src_ND, "source side").astype(np.float64)
    y_ND = unit_rows(tgt_ND, "target side").astype(np.float64)
    n = len(x_ND)
    if n != len(y_ND) or n < 2:
        raise DataError(
            f"similarity over {n} source and {len(y_ND)} target rows", "give at least two pairs, row by row"
        )
    rows = np.arange(n, dtype=np.int64)
    s_keys, t_keys = (rows if k is None else k for k in (src_keys, tgt_keys))
    both = np.stack([s_keys, t_keys], axis=1)
    same_src, same_tgt, same_both = (_group_sums(y_ND, k) for k in (s_keys, t_keys, both))
    left_out_ND = same_src[0] + same_tgt[0] - same_both[0]
    left_out_N = same_src[1] + same_tgt[1] - same_both[1]
    if (left_out_N >= n).any():
        raise DataError("a text that translates every row leaves no mismatches", "give more distinct pairs")
    pairs_N = np.einsum("nd,nd->n", x_ND, y_ND)
    others_N = np.einsum("nd,nd->n", x_ND, y_ND.sum(axis=0) - left_out_ND) / (n - left_out_N)
    return SimilarityScores(pairs_N, others_N)


def _group_sums(rows_ND: Float64, keys: Int64) -> tuple[Float64, Int64]:
    _, code = np.unique(keys, axis=0, return_inverse=True)
    code = code.reshape(-1)
    sums = np.zeros((int(code.max()) + 1, rows_ND.shape[1]))
    np.add.at(sums, code, rows_ND)
    return sums[code], np.bincount(code)[code].astype(np.int64)
