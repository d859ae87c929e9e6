"""Unit vectors and exact blocked nearest neighbours, in numpy.

Evaluation sets hold up to some ten thousand texts: an exact product in blocks is fast
enough, and never holds more than one block of the similarity matrix.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xalign_dist.errors import ModelError
from xalign_dist.records import Float32, Int64

BLOCK_ROWS = 1024


def unit_rows(rows: npt.ArrayLike, what: str = "embeddings") -> Float32:
    """Rows scaled to length 1, float32 ``[N, D]``; a zero row stays zero (an unknown text).

    Raises:
        ModelError: not two-dimensional, or a value is NaN or infinite.
    """
    rows_ND = np.asarray(rows, dtype=np.float32)
    if rows_ND.ndim != 2:
        raise ModelError(
            f"{what}: shape {rows_ND.shape}, expected [texts, dimensions]", "return one vector per text"
        )
    finite_N = np.isfinite(rows_ND).all(axis=1)
    if not finite_N.all():
        raise ModelError(
            f"{what}: {int((~finite_N).sum())} of {len(rows_ND)} vectors hold NaN or infinity"
            f" (first at row {int(np.argmin(finite_N))})",
            "check the model's weights and precision; a diverged training run gives such vectors",
        )
    norm_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return np.asarray(rows_ND / np.maximum(norm_N1, 1e-12), dtype=np.float32)


def topk(query_ND: Float32, base_MD: Float32, k: int, block: int = BLOCK_ROWS) -> tuple[Float32, Int64]:
    """The k most similar rows of ``base`` for each query, by dot product, best first.

    Args:
        query_ND: queries, float32.
        base_MD: candidates, float32.
        k: neighbours; cut to M.
        block: queries compared at once (memory: block x M float32).

    Returns:
        Similarities float32 ``[N, k]`` and indices int64 ``[N, k]``; ties by lower index.
    """
    k = min(k, len(base_MD))
    values_Nk = np.empty((len(query_ND), k), np.float32)
    index_Nk = np.empty((len(query_ND), k), np.int64)
    for start in range(0, len(query_ND), block):
        sim_bM = query_ND[start : start + block] @ base_MD.T
        values, index = topk_of(sim_bM, k)
        values_Nk[start : start + block] = values
        index_Nk[start : start + block] = index
    return values_Nk, index_Nk


def topk_of(sim_bM: Float32, k: int) -> tuple[Float32, Int64]:
    """The k largest entries of each row, best first, ties by lower index."""
    k = min(k, sim_bM.shape[1])
    part = np.argpartition(-sim_bM, k - 1, axis=1)[:, :k] if k < sim_bM.shape[1] else None
    index = np.sort(part, axis=1) if part is not None else np.tile(np.arange(k), (len(sim_bM), 1))
    values = np.take_along_axis(sim_bM, index, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return (
        np.take_along_axis(values, order, axis=1),
        np.take_along_axis(index, order, axis=1).astype(np.int64),
    )
