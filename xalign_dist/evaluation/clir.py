"""Cross-lingual document retrieval: MRR@k, nDCG@k, recall@k."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Float64
from xalign_dist.evaluation.vectors import BLOCK_ROWS, topk, unit_rows
from xalign_dist.records import Float32


class RankingScores(NamedTuple):
    """Per query: 1 / rank of the first relevant document, nDCG, share of relevant ones found.

    ``recall_N`` is among the first k, ``recall_at`` by each cut that was asked for.
    """

    rr_N: Float64
    ndcg_N: Float64
    recall_N: Float64
    recall_at: dict[int, Float64]


def rank_documents(
    query_ND: Float32,
    document_MD: Float32,
    relevant: Sequence[Collection[int]],
    *,
    k: int = 10,
    recall_at: Sequence[int] = (),
    block: int = BLOCK_ROWS,
) -> RankingScores:
    """Rank all documents for each query by cosine; only the first k count.

    nDCG with binary relevance (Jarvelin & Kekalainen 2002): ``sum 1 / log2(1 + rank)`` over the
    relevant among the first k, divided by that of the best order. A reciprocal rank is 0 where
    no relevant document is among the first k.

    Args:
        query_ND: queries.
        document_MD: documents.
        relevant: for query i, the rows of its relevant documents.
        k: cut of MRR and nDCG.
        recall_at: further cuts of recall.
        block: queries ranked at once.

    Raises:
        DataError: no queries or documents, or a query without a relevant document.
    """
    queries, documents = unit_rows(query_ND, "queries"), unit_rows(document_MD, "documents")
    if not len(queries) or not len(documents) or len(relevant) != len(queries) or not all(map(len, relevant)):
        raise DataError(
            f"{len(queries)} queries over {len(documents)} documents, or a query without relevant document",
            "give each query at least one relevant document",
        )
    _, order_NK = topk(queries, documents, max(k, *recall_at, 1), block)
    found_NK = np.array([np.isin(row, list(good)) for row, good in zip(order_NK, relevant, strict=True)])
    right_Nk = found_NK[:, :k]
    rank_k = np.arange(1, right_Nk.shape[1] + 1)
    gain_k = 1.0 / np.log2(1 + rank_k)
    count_N = np.array([len(good) for good in relevant])
    ideal_N = np.cumsum(gain_k)[np.minimum(count_N, len(rank_k)) - 1]
    return RankingScores(
        (right_Nk / rank_k).max(axis=1),
        (right_Nk * gain_k).sum(axis=1) / ideal_N,
        right_Nk.sum(axis=1) / count_N,
        {cut: found_NK[:, :cut].sum(axis=1) / count_N for cut in recall_at},
    )
