import numpy as np
import pytest

from xalign_dist.errors import DataError
from xalign_dist.evaluation.lexicon import induce_lexicon
from xalign_dist.evaluation.word_alignment import (
    GoldLinks,
    LinkCounts,
    aer,
    align_words,
    count_links,
    link_f1,
    parse_links,
)


def brute_ranks(x, y, answers, k):
    x, y = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (x, y))
    sim = x @ y.T
    rx, ry = np.sort(sim, axis=1)[:, -k:].mean(axis=1), np.sort(sim, axis=0)[-k:].mean(axis=0)
    csls = 2 * sim - rx[:, None] - ry[None, :]
    order = np.argsort(-csls, axis=1)
    return [min(order[i].tolist().index(j) for j in answers[i]) + 1 for i in range(len(x))]


def test_csls_ranks_equal_brute_force():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 12))
    y = np.concatenate([x + rng.normal(size=x.shape), rng.normal(size=(30, 12))])
    answers = [{i, int(rng.integers(80))} for i in range(50)]
    scores = induce_lexicon(x, y, answers, neighbours=5, block=7)
    ranks = np.array(brute_ranks(x, y, answers, 5))
    assert 1 < ranks.mean() < 40
    np.testing.assert_allclose(scores.rr_N, 1 / ranks)
    np.testing.assert_array_equal(scores.p1_N, ranks <= 1)
    np.testing.assert_array_equal(scores.p5_N, ranks <= 5)


def test_any_valid_translation_counts_and_the_others_do_not_push_it_down():
    x = np.array([[1.0, 0.0]])
    y = np.array([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]])
    assert induce_lexicon(x, y, [{0, 1}]).p1_N.tolist() == [1.0]
    assert induce_lexicon(x, y, [{2}]).rr_N.tolist() == [pytest.approx(1 / 3)]


def test_a_collapsed_space_gets_the_worst_rank_not_the_best():
    same = np.ones((4, 3))
    scores = induce_lexicon(same, same, [{i} for i in range(4)])
    assert scores.p1_N.sum() == 0
    np.testing.assert_allclose(scores.rr_N, 1 / 4)


def test_a_word_without_translation_is_refused():
    with pytest.raises(DataError, match="without translation"):
        induce_lexicon(np.eye(2), np.eye(2), [{0}, set()])


def test_aer_and_f1_by_hand():
    # A = {00, 11, 21}; S = {00, 12}; P = S + {11}.
    gold = GoldLinks(frozenset({(0, 0), (1, 2)}), frozenset({(0, 0), (1, 2), (1, 1)}))
    counts = count_links({(0, 0), (1, 1), (2, 1)}, gold)
    assert counts == LinkCounts(answers=3, in_sure=1, in_possible=2, sure=2)
    assert aer([counts]) == pytest.approx(1 - (1 + 2) / (3 + 2))
    precision, recall = 2 / 3, 1 / 2
    assert link_f1([counts]) == pytest.approx(2 * precision * recall / (precision + recall))


def test_without_possible_links_aer_is_one_minus_f1():
    gold = parse_links("0-0 1-1 2-2", 3, 3)
    counts = [count_links({(0, 0), (1, 2)}, gold), count_links({(2, 2)}, gold)]
    assert aer(counts) == pytest.approx(1 - link_f1(counts))
    assert np.isnan(aer([]))
    assert np.isnan(link_f1([]))


def test_pharaoh_notation_and_its_faults():
    gold = parse_links("0-0 1?2 2p1", 3, 3)
    assert gold.sure == {(0, 0)}
    assert gold.possible == {(0, 0), (1, 2), (2, 1)}
    with pytest.raises(DataError, match="0:1"):
        parse_links("0:1", 2, 2)
    with pytest.raises(DataError, match="outside"):
        parse_links("0-2", 2, 2)


def test_mutual_links_words_that_prefer_each_other():
    src = np.eye(3)
    tgt = np.eye(3)[[1, 0, 2]]
    assert align_words(src, tgt, "mutual") == {(0, 1), (1, 0), (2, 2)}
    assert align_words(src[:0], tgt) == set()


def test_a_word_without_a_state_is_never_linked():
    src = np.array([[1.0, 0.0], [0.0, 0.0]])
    tgt = np.array([[0.0, 0.0], [-1.0, 0.1], [0.0, 0.0]])
    assert align_words(src, tgt) == {(0, 1)}


def test_itermax_adds_one_to_many_links_that_mutual_cannot_give():
    # Two target words share one source word: the second one is only found in the second round.
    src = np.array([[1.0, 0.0], [0.0, 1.0]])
    tgt = np.array([[1.0, 0.05], [1.0, 0.3], [0.0, 1.0]])
    assert align_words(src, tgt, "mutual") == {(0, 0), (1, 2)}
    assert align_words(src, tgt, "itermax") == {(0, 0), (0, 1), (1, 2)}
