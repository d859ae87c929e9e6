"""MTEB's evaluators on the same vectors: equal to 1e-4. With texts and a model: benchmarks/mteb_parity.py."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores
from mteb._evaluators.text.bitext_mining_evaluator import BitextMiningEvaluator
from mteb.abstasks.text.bitext_mining import AbsTaskBitextMining

from xalign_dist.evaluation.clir import rank_documents
from xalign_dist.evaluation.retrieval import retrieval

# MTEB's own, at every comparison.
pytestmark = pytest.mark.filterwarnings("ignore:To copy construct from a tensor")
TOLERANCE = 1e-4


def unit(rows: int, seed: int, dim: int = 24) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return one @ other.T


@pytest.mark.parametrize("noise", [0.2, 1.0, 2.0])
def test_bitext_accuracy_and_f1_are_mtebs(noise: float) -> None:
    src = unit(300, 1)
    tgt = src + noise * unit(300, 2)
    tgt = (tgt / np.linalg.norm(tgt, axis=1, keepdims=True)).astype(np.float32)
    ours = retrieval(src, tgt)
    model = SimpleNamespace(similarity=cosine)
    for scores, one, other in ((ours.forward, src, tgt), (ours.backward, tgt, src)):
        nearest = BitextMiningEvaluator._similarity_search(
            None, torch.from_numpy(one), torch.from_numpy(other), model
        )
        theirs = AbsTaskBitextMining._compute_metrics(None, nearest, [(i, i) for i in range(len(src))])
        assert scores.accuracy == pytest.approx(theirs["accuracy"], abs=TOLERANCE)
        assert scores.f1 == pytest.approx(theirs["f1"], abs=TOLERANCE)
    assert 0.1 < ours.forward.accuracy <= 1


def test_document_scores_are_mtebs() -> None:
    queries, documents = unit(60, 3), unit(150, 4)
    rng = np.random.default_rng(5)
    relevant = [set(rng.choice(150, rng.integers(1, 6), replace=False).tolist()) for _ in queries]
    ours = rank_documents(queries, documents, relevant, k=10, recall_at=[100])
    results: dict[str, dict[str, float]] = defaultdict(dict)
    for i, row in enumerate(queries @ documents.T):
        for j in np.argsort(-row, kind="stable"):
            results[str(i)][str(j)] = float(row[j])
    qrels = {str(i): {str(j): 1 for j in good} for i, good in enumerate(relevant)}
    theirs = calculate_retrieval_scores(results, qrels, [10, 100])
    for value, expected in (
        (ours.rr_N, theirs.mrr["MRR@10"]),
        (ours.ndcg_N, theirs.ndcg["NDCG@10"]),
        (ours.recall_N, theirs.recall["Recall@10"]),
        (ours.recall_at[100], theirs.recall["Recall@100"]),
    ):
        assert 0 < expected < 1
        assert float(value.mean()) == pytest.approx(expected, abs=TOLERANCE)
