import numpy as np
import pytest

from xalign_dist.baselines.static import (
    StaticEmbedder,
    rank_weights,
    refined_rotation,
    rotation_onto,
)
from xalign_dist.errors import DataError, ModelError

WORDS = 40
DIM = 8


def rotated_world(noise=0.1, seed=0):
    """English words, and the words of another language: the same space, turned and moved."""
    rng = np.random.default_rng(seed)
    english = rng.normal(size=(WORDS, DIM))
    turn = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    other = english @ turn + 2.0 + noise * rng.normal(size=(WORDS, DIM))
    matrix = np.concatenate([np.zeros((1, DIM)), english, other]).astype(np.float32)
    sentences = [rng.choice(WORDS, 5) for _ in range(120)]
    eng = [" ".join(f"e{w}" for w in s) for s in sentences]
    deu = [" ".join(f"d{w}" for w in s) for s in sentences]
    return matrix, eng, deu


def tokenize(texts):
    return [[1 + int(w[1:]) + WORDS * (w[0] == "d") for w in t.split() if w[0] in "ed"] for t in texts]


def accuracy(embedder, eng, deu):
    a, b = embedder.for_language("eng")(eng), embedder.for_language("deu")(deu)
    return float(((a @ b.T).argmax(axis=1) == np.arange(len(eng))).mean())


def test_a_text_is_the_weighted_mean_of_its_rows():
    matrix = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    embed = StaticEmbedder(lambda texts: [[1, 2], [], [2]], matrix, [1.0, 3.0, 1.0])
    rows = embed(["a b", "", "b"])
    np.testing.assert_allclose(rows[0], np.array([3, 1]) / np.sqrt(10), rtol=1e-6)
    np.testing.assert_array_equal(rows[1], [0, 0])
    assert rank_weights(3).tolist() == pytest.approx([0, np.log(2), np.log(3)])


def test_procrustes_finds_the_rotation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 5)).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    w = rotation_onto(x, (x @ turn).astype(np.float32))
    np.testing.assert_allclose(w, turn.T, atol=1e-5)
    np.testing.assert_allclose(w @ w.T, np.eye(5), atol=1e-5)


def test_fitting_aligns_held_out_texts_and_without_it_nothing_is():
    matrix, eng, deu = rotated_world()
    embedder = StaticEmbedder(tokenize, matrix)
    assert accuracy(embedder, eng[60:], deu[60:]) < 0.2
    embedder.fit({"deu": (eng[:60], deu[:60])})
    assert accuracy(embedder, eng[60:], deu[60:]) > 0.9


def test_centring_alone_does_not_rotate():
    matrix, eng, deu = rotated_world()
    centred = StaticEmbedder(tokenize, matrix).fit({"deu": (eng[:60], deu[:60])}, rotate=False)
    assert accuracy(centred, eng[60:], deu[60:]) < 0.3
    assert np.abs(centred.for_language("deu")(deu[:60]).mean(axis=0)).max() < 0.1


def test_refinement_adds_anchors_where_pairs_are_noisy():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 16)).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    y = (x @ turn).astype(np.float32)
    wrong = y.copy()
    wrong[:80] = y[rng.permutation(80)]
    norms = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (x, wrong)]
    errors = [np.linalg.norm(refined_rotation(*norms, r) - turn.T) for r in (0, 3)]
    assert errors[1] < 0.5 * errors[0]


def test_one_embedder_for_texts_of_several_languages():
    matrix, eng, deu = rotated_world()
    embedder = StaticEmbedder(tokenize, matrix).fit({"deu": (eng, deu)})
    embed = embedder.embedder(lambda texts: ["deu" if t.startswith("d") else "eng" for t in texts])
    rows = embed([eng[0], deu[0], deu[1]])
    np.testing.assert_array_equal(rows[0], embedder.for_language("eng")([eng[0]])[0])
    np.testing.assert_array_equal(rows[1:], embedder.for_language("deu")(deu[:2]))


def test_unknown_texts_stay_at_zero_and_an_unfitted_language_is_not_rotated():
    matrix, eng, deu = rotated_world()
    embedder = StaticEmbedder(tokenize, matrix).fit({"deu": (eng, deu)})
    np.testing.assert_array_equal(embedder.for_language("deu")(["???"]), np.zeros((1, DIM)))
    np.testing.assert_array_equal(
        embedder.for_language("fra")(eng[:3]), embedder.for_language("eng")(eng[:3])
    )
    assert embedder.for_language("deu")([]).shape == (0, DIM)


def test_faults_are_named():
    matrix, eng, deu = rotated_world()
    with pytest.raises(DataError, match="deu: 3 English texts, 2 translations"):
        StaticEmbedder(tokenize, matrix).fit({"deu": (eng[:3], deu[:2])})
    with pytest.raises(ModelError, match="one weight per token"):
        StaticEmbedder(tokenize, matrix, [1.0])
    with pytest.raises(ModelError, match="finite"):
        StaticEmbedder(tokenize, np.full((3, 2), np.nan))
    with pytest.raises(ModelError, match="outside a matrix of 2 rows"):
        StaticEmbedder(tokenize, matrix[:2])(["d3"])
