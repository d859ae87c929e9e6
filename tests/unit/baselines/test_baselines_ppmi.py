"""PPMI by hand and by a dense twin; words of like contexts get like vectors; as static vectors."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.baselines.ppmi import ppmi_vectors
from xalign_dist.baselines.static import StaticEmbedder
from xalign_dist.errors import DataError


def dense_twin(texts, size, window, smoothing):
    """Plain loops; the products of its vectors are those of the best factors of the same rank."""
    counts = np.zeros((size, size))
    for ids in texts:
        for i, a in enumerate(ids):
            for j in range(max(0, i - window), min(len(ids), i + window + 1)):
                if i != j:
                    counts[a, ids[j]] += 1
    total = counts.sum()
    word = counts.sum(axis=1) / total
    context = counts.sum(axis=1) ** smoothing / (counts.sum(axis=1) ** smoothing).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(counts / total / (word[:, None] * context[None, :]))
    return np.where(np.isfinite(pmi), np.maximum(pmi, 0), 0)


def test_it_is_the_decomposition_of_the_matrix_by_hand():
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 12, rng.integers(1, 9)).tolist() for _ in range(60)]
    vectors = ppmi_vectors(texts, 13, dimensions=4, window=2, smoothing=0.75)
    assert vectors.shape == (13, 4)
    assert not vectors[[0, 12]].any()  # never seen
    left, scale, _ = np.linalg.svd(dense_twin(texts, 13, 2, 0.75))
    expected = (left[:, :4] * scale[:4]) @ left[:, :4].T
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)


def test_blocks_of_texts_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    texts = [rng.integers(0, 20, 7).tolist() for _ in range(50)]
    whole = ppmi_vectors(texts, 20, dimensions=5)
    monkeypatch.setattr("xalign_dist.baselines.ppmi._FLUSH", 40)
    again = ppmi_vectors(iter(texts), 20, dimensions=5)
    np.testing.assert_allclose(whole @ whole.T, again @ again.T, atol=1e-5)


def test_translations_find_each_other_after_a_rotation():
    """Two languages that say the same with other words: only the corpus tells which words are alike."""
    rng = np.random.default_rng(2)
    topics = rng.dirichlet(np.full(40, 0.15), 12)
    said = [rng.choice(40, 12, p=topics[rng.integers(12)]) for _ in range(1500)]
    english = [" ".join(f"e{w}" for w in s) for s in said]
    other = [" ".join(f"d{w}" for w in s) for s in said]

    def tokenize(texts):
        return [[int(w[1:]) + 40 * (w[0] == "d") for w in t.split()] for t in texts]

    vectors = ppmi_vectors(tokenize([*english, *other]), 80, dimensions=24)
    static = StaticEmbedder(tokenize, vectors).fit({"deu": (english[:1000], other[:1000])})
    a, b = static.for_language("eng")(english[1000:]), static.for_language("deu")(other[1000:])
    assert ((a @ b.T).argmax(axis=1) == np.arange(500)).mean() > 0.9


def test_a_corpus_of_single_tokens_is_refused():
    with pytest.raises(DataError, match="two tokens side by side"):
        ppmi_vectors([[1], [2], []], 3)
