"""Bilingual lexicon induction with CSLS (Conneau et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Float64
from xalign_dist.evaluation.vectors import BLOCK_ROWS, topk, unit_rows
from xalign_dist.records import Float32

CSLS_NEIGHBOURS = 10


class LexiconScores(NamedTuple):
    """Per source word: is a valid translation first, among the first five, 1 / rank of the best."""

    p1_N: Float64
    p5_N: Float64
    rr_N: Float64


def csls_means(query_ND: Float32, base_MD: Float32, k: int = CSLS_NEIGHBOURS) -> Float64:
    """Mean cosine of each query with its k nearest in ``base``, float64 ``[N]``."""
    return np.asarray(topk(query_ND, base_MD, k)[0].mean(axis=1), dtype=np.float64)


def induce_lexicon(
    src_ND: Float32,
    tgt_MD: Float32,
    answers: Sequence[set[int]] | Mapping[int, set[int]],
    *,
    neighbours: int = CSLS_NEIGHBOURS,
    block: int = BLOCK_ROWS,
) -> LexiconScores:
    """Rank all target words for each source word by CSLS.

    ``csls(x, y) = 2 cos(x, y) - r(x) - r(y)``, r the mean cosine with the k nearest words of
    the other language. A source word may have several valid translations; the best-ranked
    counts. Ties count against the model: words scored alike rank before the answer.

    Args:
        src_ND: one vector per distinct source word.
        tgt_MD: one vector per distinct target word; all are candidates.
        answers: for source row i, rows of its valid translations.
        neighbours: k of CSLS.
        block: source words ranked at once.

    Raises:
        DataError: no words, or a source word without a valid translation.
    """
    x_ND, y_MD = unit_rows(src_ND, "source words"), unit_rows(tgt_MD, "target words")
    gold = [answers[i] for i in range(len(x_ND))]
    if not gold or not len(y_MD) or not all(gold):
        raise DataError(
            f"lexicon of {len(x_ND)} source and {len(y_MD)} target words, or a word without translation",
            "give each source word at least one valid translation",
        )
    hub_M = csls_means(y_MD, x_ND, neighbours)
    rank_N = np.empty(len(x_ND))
    for start in range(0, len(x_ND), block):
        # r(x) is the same for all candidates of x and changes no rank.
        score_bM = 2.0 * (x_ND[start : start + block] @ y_MD.T) - hub_M[None, :]
        for row, valid in enumerate(gold[start : start + block]):
            rank_N[start + row] = _best_rank(score_bM[row], valid)
    return LexiconScores(
        (rank_N <= 1).astype(np.float64), (rank_N <= 5).astype(np.float64), np.asarray(1.0 / rank_N)
    )


def _best_rank(score_M: Float64, valid: set[int]) -> int:
    rows = np.fromiter(valid, np.int64, len(valid))
    best = score_M[rows].max()
    return 1 + int((score_M >= best).sum()) - int((score_M[rows] >= best).sum())
