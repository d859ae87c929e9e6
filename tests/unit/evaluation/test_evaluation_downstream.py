import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ndcg_score

from xalign_dist.errors import DataError
from xalign_dist.evaluation.classification import STRENGTHS, ZeroShotClassifier
from xalign_dist.evaluation.clir import rank_documents


def test_ndcg_equals_sklearn_and_mrr_recall_equal_counting():
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(30, 8)), rng.normal(size=(50, 8))
    relevant = [set(rng.choice(50, rng.integers(1, 15), replace=False).tolist()) for _ in range(30)]
    scores = rank_documents(queries, documents, relevant, k=10, block=7)
    sim = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        documents / np.linalg.norm(documents, axis=1, keepdims=True)
    ).T
    for i, good in enumerate(relevant):
        truth = np.isin(np.arange(50), list(good)).astype(float)
        assert scores.ndcg_N[i] == pytest.approx(ndcg_score(truth[None], sim[i : i + 1], k=10))
        ranks = [r for r, j in enumerate(np.argsort(-sim[i])[:10], 1) if j in good]
        assert scores.rr_N[i] == pytest.approx(1 / ranks[0] if ranks else 0)
        assert scores.recall_N[i] == pytest.approx(len(ranks) / len(good))


def test_mrr_by_hand_and_the_cut():
    queries = np.array([[1.0, 0.0]])
    documents = np.array([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [0.0, 1.0]])
    assert rank_documents(queries, documents, [{2}]).rr_N.tolist() == [pytest.approx(1 / 3)]
    assert rank_documents(queries, documents, [{2}], k=2).rr_N.tolist() == [0.0]
    cuts = rank_documents(queries, documents, [{2, 3}], k=2, recall_at=[1, 3, 4, 100]).recall_at
    assert {cut: found.tolist() for cut, found in cuts.items()} == {1: [0], 3: [0.5], 4: [1], 100: [1]}
    with pytest.raises(DataError, match="without relevant document"):
        rank_documents(queries, documents, [set()])


def classes(n=60, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    labels = np.array(["sport", "science", "travel"])[np.arange(n) % 3]
    centres = np.eye(8)[:3] * 2
    return rng.normal(size=(n, 8)) + centres[np.arange(n) % 3] + shift * np.eye(8)[7], labels.tolist()


def test_a_classifier_trained_on_one_language_works_on_an_aligned_one():
    train, dev, other = classes(150), classes(60, 1), classes(90, 2)
    model = ZeroShotClassifier(*train, *dev)
    assert model.hits(*other).mean() > 0.8
    random = model.hits(np.random.default_rng(0).normal(size=(90, 8)), other[1])
    assert random.mean() < 0.55


def test_strength_is_the_best_on_the_dev_rows():
    (x, y), (dev, dev_y) = classes(60), classes(60, 1)
    unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (x, dev)]
    quality = [
        LogisticRegression(C=c, max_iter=2000).fit(unit[0], y).score(unit[1], dev_y) for c in STRENGTHS
    ]
    assert len(set(quality)) > 1
    assert ZeroShotClassifier(x, y, dev, dev_y).strength == STRENGTHS[int(np.argmax(quality))]


def test_without_a_dev_set_a_part_of_the_training_rows_decides_and_all_are_fitted():
    x, y = classes(150)
    model = ZeroShotClassifier(x, y, seed=3)
    assert model.strength in STRENGTHS
    assert model.hits(*classes(60, 1)).mean() > 0.8


def test_shots_of_the_target_language_mend_a_shifted_space():
    train, dev = classes(150), classes(60, 1)
    # In the other language every class sits where another one sits in the first.
    x, y = classes(120, 2)
    turned = np.roll(x, 1, axis=1)
    model = ZeroShotClassifier(*train, *dev)
    few = model.few_shot(turned[:60], y[:60], 15, seed=0)
    assert few.hits(turned[60:], y[60:]).mean() > model.hits(turned[60:], y[60:]).mean() + 0.1
    with pytest.raises(DataError, match="20 training examples, 40 shots"):
        model.few_shot(turned[:60], y[:60], 40, seed=0)


def test_one_class_is_refused():
    with pytest.raises(DataError, match="fewer than two classes"):
        ZeroShotClassifier(np.eye(3), ["a", "a", "a"])
