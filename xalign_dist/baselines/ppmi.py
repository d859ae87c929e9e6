"""Word vectors that the corpus itself gives: positive pointwise mutual information, its largest factors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from sklearn.utils.extmath import randomized_svd

from xalign_dist.errors import DataError
from xalign_dist.records import Float32

WINDOW = 5
SMOOTHING = 0.75
DIMENSIONS = 300
POWER_ITERATIONS = 4
_FLUSH = 2_000_000


def ppmi_vectors(
    token_ids: Iterable[Sequence[int]],
    size: int,
    *,
    dimensions: int = DIMENSIONS,
    window: int = WINDOW,
    smoothing: float = SMOOTHING,
    seed: int = 0,
) -> Float32:
    """One vector per token, float32 ``[V, D]``; zeros for tokens that never occur.

    Tokens within ``window`` of each other are counted; with P the shares of the counts

        ppmi(w, c) = max(0, log P(w, c) / (P(w) P_a(c))),  P_a(c) proportional to count(c) ** smoothing

    and the vectors are ``U sqrt(S)`` of its truncated singular value decomposition (Levy, Goldberg and
    Dagan 2015, who recommend the square root and a smoothing of 0.75).

    Args:
        token_ids: of each text.
        size: V; ids are below it.
        dimensions: D; fewer where fewer tokens occur.
        window: tokens to either side.
        smoothing: of the contexts' distribution.
        seed: of the decomposition, which is randomised.

    Raises:
        DataError: no two tokens next to each other in any text.
    """
    counts_VV = _counts(token_ids, size, window)
    seen = np.flatnonzero(np.diff(counts_VV.indptr))
    if len(seen) < 2:
        raise DataError("PPMI vectors of a corpus without two tokens side by side", "give longer texts")
    part = counts_VV[seen][:, seen].tocoo()
    of_word = np.asarray(part.sum(axis=1)).ravel()
    context = of_word**smoothing
    context /= context.sum()
    # P(w, c) / P(w): both have the same total, which falls out.
    value = np.log(part.data / (of_word[part.row] * context[part.col]))
    kept = value > 0
    ppmi = csr_matrix((value[kept], (part.row[kept], part.col[kept])), shape=part.shape)
    rank = min(dimensions, len(seen) - 1)
    # Randomised (Halko et al. 2011): an iterative one takes minutes for the tokens of a large vocabulary.
    left, scale, _ = randomized_svd(ppmi, n_components=rank, n_iter=POWER_ITERATIONS, random_state=seed)
    out = np.zeros((size, rank), np.float32)
    out[seen] = left * np.sqrt(scale)
    return out


def _counts(token_ids: Iterable[Sequence[int]], size: int, window: int) -> csr_matrix:
    """How often two tokens stand within ``window`` of each other, symmetric, ``[V, V]``."""
    found = csr_matrix((size, size), dtype=np.float64)
    one: list[np.ndarray] = []
    other: list[np.ndarray] = []
    waiting = 0

    def flushed() -> csr_matrix:
        if not one:
            return found
        rows, columns = np.concatenate(one), np.concatenate(other)
        pairs = np.concatenate([rows, columns]), np.concatenate([columns, rows])
        return found + coo_matrix((np.ones(len(pairs[0])), pairs), shape=(size, size)).tocsr()

    for ids in token_ids:
        row = np.asarray(ids, np.int64)
        for step in range(1, min(window, len(row) - 1) + 1):
            one.append(row[:-step])
            other.append(row[step:])
            waiting += len(row) - step
        if waiting >= _FLUSH:
            found, waiting = flushed(), 0
            one.clear()
            other.clear()
    return flushed()
