import numpy as np
import pytest
from sklearn.metrics import f1_score

from xalign_dist.errors import DataError, ModelError
from xalign_dist.evaluation.retrieval import pooled_retrieval, retrieval
from xalign_dist.evaluation.vectors import topk
from xalign_dist.records import text_keys


def noisy_pairs(n=200, d=16, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    return x, (x + noise * rng.normal(size=(n, d))).astype(np.float32)


def brute_xsim(x, y, k=4):
    x, y = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (x.astype(float), y.astype(float)))
    sim = x @ y.T
    wrong = 0
    rx = np.sort(sim, axis=1)[:, -k:].mean(axis=1)
    ry = np.sort(sim, axis=0)[-k:].mean(axis=0)
    for i in range(len(x)):
        near = np.argsort(-sim[i])[:k]
        best = max(near, key=lambda j: sim[i, j] / ((rx[i] + ry[j]) / 2))
        wrong += best != i
    return wrong / len(x)


def test_accuracy_f1_and_xsim_equal_brute_force_in_both_directions():
    x, y = noisy_pairs()
    scores = retrieval(x, y, block=37)
    for one, a, b in ((scores.forward, x, y), (scores.backward, y, x)):
        unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b)]
        answer = (unit[0] @ unit[1].T).argmax(axis=1)
        gold = np.arange(len(x))
        assert 0.3 < one.accuracy < 0.99
        assert one.accuracy == pytest.approx((answer == gold).mean())
        expected = f1_score(gold, answer, average="weighted", zero_division=0)
        assert one.f1 == pytest.approx(expected, abs=1e-12)
        assert one.xsim == pytest.approx(brute_xsim(a, b))
    assert scores.forward.accuracy != scores.backward.accuracy


def test_block_size_changes_nothing():
    x, y = noisy_pairs()
    whole, parts = retrieval(x, y, block=1000), retrieval(x, y, block=7)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a.hits_N, b.hits_N)
        np.testing.assert_array_equal(a.errors_N, b.errors_N)


def test_margin_rescues_a_query_from_a_hub():
    # The hub is near every query; the margin divides its similarity by its neighbourhood.
    hub = np.array([1.0, 1.0, 1.0, 1.0])
    src = np.eye(4) + 0.9
    tgt = np.eye(4) + 0.05
    tgt[0] = hub
    scores = retrieval(src.astype(np.float32), tgt.astype(np.float32), neighbours=4)
    assert scores.forward.accuracy < 0.5
    assert scores.forward.xsim < 1 - scores.forward.accuracy


def test_equal_texts_are_right_answers_only_with_keys():
    src = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 0, 1]], np.float32)
    tgt = np.array([[1, 0, 0], [1, 0, 0.01], [0, 0, 1]], np.float32)
    keys = text_keys(["Öffnen", "Öffnen", "Schließen"])
    without = retrieval(src, tgt)
    with_keys = retrieval(src, tgt, src_keys=text_keys(["Open", "Launch", "Close"]), tgt_keys=keys)
    assert without.forward.hits_N.tolist() == [True, False, True]
    assert with_keys.forward.hits_N.tolist() == [True, True, True]
    assert with_keys.forward.f1 == 1.0
    assert with_keys.forward.xsim == 0.0


def test_a_query_text_that_occurs_twice_accepts_either_partner():
    src = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    tgt = np.array([[1, 0], [0.8, 0.2], [0, 1]], np.float32)
    keys = (text_keys(["Open", "Open", "Close"]), text_keys(["Öffnen", "Offen", "Zu"]))
    scores = retrieval(src, tgt, src_keys=keys[0], tgt_keys=keys[1])
    assert scores.forward.accuracy == 1.0


def test_unequal_or_empty_sides_and_nan_are_named():
    x, y = noisy_pairs(5)
    with pytest.raises(DataError, match="5 source and 4 target"):
        retrieval(x, y[:4])
    with pytest.raises(DataError):
        retrieval(x[:0], y[:0])
    y[3, 1] = np.nan
    with pytest.raises(ModelError, match=r"target side: 1 of 5 .* row 3"):
        retrieval(x, y)


def test_pooled_retrieval_by_hand():
    # Two languages; a0 and b0 translate each other, as do a1 and b1; b1 lies nearest to b0.
    vectors = np.array([[1, 0], [0, 1], [0.9, 0.2], [0.7, 0.6]], np.float32)
    scores = pooled_retrieval(vectors, ["aaa", "aaa", "bbb", "bbb"], [0, 1, 0, 1])
    assert scores.nearest_N.tolist() == [2, 3, 0, 2]
    assert scores.hits_N.tolist() == [True, True, True, False]
    assert scores.own_language_N.tolist() == [False, False, False, True]
    assert scores.by_language() == {"aaa": (1.0, 0.0), "bbb": (0.5, 0.5)}


def test_a_space_clustered_by_language_is_all_bias():
    rng = np.random.default_rng(0)
    meaning = rng.normal(size=(20, 8))
    language = np.eye(8)[:2] * 100
    vectors = np.concatenate([meaning + language[0], meaning + language[1]]).astype(np.float32)
    lang = ["aaa"] * 20 + ["bbb"] * 20
    scores = pooled_retrieval(vectors, lang, [*range(20), *range(20)])
    assert scores.accuracy == 0.0
    assert scores.language_bias == 1.0
    assert pooled_retrieval(np.tile(meaning, (2, 1)), lang, [*range(20), *range(20)]).accuracy == 1.0


def test_pooled_copies_in_the_query_language_leave_the_pool_and_shared_texts_count():
    # "Open" stands in groups 0 and 1 with different translations: either is right for both.
    texts = ["Open", "Open", "Öffnen", "Offen"]
    vectors = np.array([[1, 0], [1, 0], [0.99, 0.1], [0.9, 0.3]], np.float32)
    lang, group = ["eng", "eng", "deu", "deu"], [0, 1, 0, 1]
    plain = pooled_retrieval(vectors, lang, group)
    keyed = pooled_retrieval(vectors, lang, group, keys_N=text_keys(texts))
    assert plain.hits_N[:2].tolist() == [False, False]
    assert keyed.hits_N[:2].tolist() == [True, True]


def test_a_paraphrase_in_the_query_language_is_no_translation():
    vectors = np.array([[1, 0], [1, 0.01], [0.5, 0.5], [0, 1]], np.float32)
    scores = pooled_retrieval(vectors, ["eng", "eng", "deu", "deu"], [0, 0, 0, 1])
    assert scores.nearest_N.tolist()[:2] == [1, 0]
    assert scores.hits_N.tolist()[:2] == [False, False]


def test_pooled_blocks_agree():
    x, y = noisy_pairs(60)
    args = (np.concatenate([x, y]), ["aaa"] * 60 + ["bbb"] * 60, [*range(60), *range(60)])
    np.testing.assert_array_equal(
        pooled_retrieval(*args, block=7).nearest_N, pooled_retrieval(*args, block=999).nearest_N
    )


def test_topk_is_sorted_with_ties_by_lower_index():
    values, index = topk(np.array([[1.0]], np.float32), np.array([[2.0], [3.0], [3.0], [1.0]], np.float32), 3)
    assert index.tolist() == [[1, 2, 0]]
    assert values.tolist() == [[3.0, 3.0, 2.0]]
