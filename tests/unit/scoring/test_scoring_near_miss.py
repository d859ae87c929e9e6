"""Near misses are told from whole translations, and a clean corpus stays whole."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.config import ScoringConfig
from xalign_dist.scoring.judge import Judge, Labels, judge
from xalign_dist.scoring.near_miss import (
    ADDED,
    LEFT_OUT,
    MOST_OF_A_MARK,
    NEIGHBOUR,
    NUMBER,
    ORDER,
    NearMissScore,
    near_misses,
)
from xalign_dist.scoring.similarity import Neighbourhood
from xalign_dist.scoring.traits import NAMES, agreement, norms, traits
from xalign_dist.scoring.yardstick import Rows, Yardstick

CONFIG = ScoringConfig()
PAIRS, DIM = 500, 48
WORDS = 8


def world(seed: int) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Pairs whose vectors are the mean of their words', which both sides share under other names."""
    rng = np.random.default_rng(seed)
    word_WD = rng.standard_normal((400, DIM)) + 1.5 * rng.standard_normal(DIM)
    chosen = rng.integers(400, size=(PAIRS, WORDS))
    name = ["".join(chr(97 + int(d)) for d in f"{w:03}") for w in range(400)]
    src = ["Say " + " ".join(f"src{name[w]}" for w in row) + f" {n} times." for n, row in enumerate(chosen)]
    tgt = ["Zeg " + " ".join(f"tgt{name[w]}" for w in row) + f" {n} keer." for n, row in enumerate(chosen)]
    meaning = word_WD[chosen].mean(axis=1)
    sides = [meaning + 0.12 * rng.standard_normal((PAIRS, DIM)) for _ in range(2)]
    src_ND, tgt_ND = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in sides)
    return src, tgt, src_ND.astype(np.float32), tgt_ND.astype(np.float32)


def scored(
    src: list[str], tgt: list[str], src_ND: np.ndarray, tgt_ND: np.ndarray, cfg: ScoringConfig = CONFIG
) -> tuple[Judge, Labels]:
    yard = Yardstick.of(Rows(src, tgt, src_ND, tgt_ND), ("und", "und"), cfg, 0)
    found = judge(yard, yard.measured.seen(), cfg, 0)
    return found, found.label(src, tgt, yard.measured)


def test_clean_pairs_stay_whole() -> None:
    src, tgt, src_ND, tgt_ND = world(0)
    found, labels = scored(src, tgt, src_ND, tgt_ND)
    assert found.whole is not None
    assert (labels.confidence_N > 0.5).mean() > 0.98
    assert found.whole.rates["near misses"].low < 0.01


@pytest.mark.parametrize("kind", ["left out", "number", "order"])
def test_altered_text_is_doubted_though_its_vector_is_right(kind: str) -> None:
    src, tgt, src_ND, tgt_ND = world(1)
    bad = np.random.default_rng(2).permutation(PAIRS)[: PAIRS // 10]
    for i in bad:
        words = tgt[i].split()
        if kind == "left out":
            tgt[i] = " ".join(words[:5])
        elif kind == "number":
            tgt[i] = " ".join([*words[:-2], str(i + 1000), words[-1]])
        else:
            tgt[i] = " ".join(words[::-1])
    found, labels = scored(src, tgt, src_ND, tgt_ND)
    good = np.setdiff1d(np.arange(PAIRS), bad)
    assert found.whole is not None
    assert (labels.confidence_N[good] > 0.5).mean() > 0.97
    assert (labels.confidence_N[bad] < np.quantile(labels.confidence_N[good], 0.05)).mean() > 0.9
    rate = found.whole.rates["near misses"]
    assert rate.low <= rate.value <= rate.high
    # What may be partial is no noise of the rate that the threshold follows.
    assert found.noise[0] < 0.05


def test_near_misses_are_what_they_say() -> None:
    src, tgt, src_ND, tgt_ND = world(3)
    rows = np.arange(40)
    near = Neighbourhood(src_ND, tgt_ND, 4)
    found = near_misses(src, tgt, near, rows, np.random.default_rng(0))
    whole = np.einsum("nd,nd->n", src_ND, tgt_ND)
    for kind, row, text, cosine in zip(*found, strict=True):
        words, own = text.split(), tgt[row].split()
        if kind == LEFT_OUT:
            assert words == own[: len(words)]
            assert len(words) < len(own)
        elif kind == ADDED:
            assert text.startswith(tgt[row])
            assert len(words) == 2 * len(own)
        elif kind == NUMBER:
            assert words[:-2] == own[:-2]
            assert words[-2] != own[-2]
        elif kind == ORDER:
            assert sorted(words) == sorted(own)
        else:
            assert kind == NEIGHBOUR
            other = tgt.index(text)
            assert other != row
            sims = tgt_ND @ src_ND[row]
            assert sims[other] == max(np.delete(sims, row))
        if kind in (NUMBER, ORDER):
            assert cosine == pytest.approx(whole[row], abs=1e-6)
        else:
            assert cosine < whole[row]


def test_the_vector_of_two_texts_in_one_is_their_weighted_mean() -> None:
    src, tgt, src_ND, tgt_ND = world(4)
    found = near_misses(src, tgt, Neighbourhood(src_ND, tgt_ND, 4), np.arange(30), np.random.default_rng(0))
    added = found.only((ADDED,))
    other = [tgt.index(t[len(tgt[r]) + 1 :]) for r, t in zip(added.row_M, added.text, strict=True)]
    for row, mate, cosine in zip(added.row_M, other, added.cosine_M, strict=True):
        both = len(tgt[row]) * tgt_ND[row] + len(tgt[mate]) * tgt_ND[mate]
        assert cosine == pytest.approx(src_ND[row] @ both / np.linalg.norm(both), abs=1e-5)


def test_agreement_is_relative_to_the_corpus() -> None:
    # In this language a sentence ends with "::", and every text is twice as long.
    src = ["The word is here now.", "Another word is there.", "No word was in the box."] * 20
    tgt = [f"{s[:-1]} {s[:-1]}\u1361\u1361" for s in src]
    src += ["Come 7 times.", "The end of it is near.", "What is it you want?"]
    tgt += ["Come Come 8\u1361\u1361", "the end", "What is it you want What is it you want\u1361\u1361"]
    left, right = traits(src), traits(tgt)
    weights = np.r_[np.ones(60), np.zeros(3)]
    far = agreement(left, right, norms(left, right, weights))
    name = {n: i for i, n in enumerate(NAMES)}
    assert (far[:60, : name["sentences"]] < 0.3).all()
    assert far[60, name["numbers"]] == 1
    assert far[61, name["ending"]] > 2
    assert far[61, name["first letter"]] > 2
    assert far[61, name["too short"]] > 3
    assert far[62, name["too short"]] + far[62, name["too long"]] < 0.5


def test_off_and_too_few_leave_the_simple_rules() -> None:
    src, tgt, src_ND, tgt_ND = world(5)
    off, _ = scored(src, tgt, src_ND, tgt_ND, ScoringConfig(near_misses=0))
    few, labels = scored(src[:60], tgt[:60], src_ND[:60], tgt_ND[:60])
    assert off.whole is None
    assert few.whole is None
    assert not few.calibration.stable
    assert np.isfinite(labels.confidence_N).all()


def test_texts_of_one_word_have_no_near_misses_of_order() -> None:
    src, tgt = ["Stop", "Go", "Run"], ["Halt", "Ga", "Ren"]
    vectors = np.eye(3, dtype=np.float32)
    found = near_misses(src, tgt, Neighbourhood(vectors, vectors, 2), np.arange(3), np.random.default_rng(0))
    assert set(found.kind_M.tolist()) <= {ADDED, NEIGHBOUR}
    alone = near_misses(
        src[:1], tgt[:1], Neighbourhood(vectors[:1], vectors[:1], 2), np.arange(1), np.random.default_rng(0)
    )
    assert len(alone.row_M) == 0


def test_a_mark_that_the_corpus_has_nowhere_does_not_decide_by_itself() -> None:
    src, tgt, *_ = world(6)
    usual = norms(traits(src), traits(tgt), np.ones(PAIRS))
    texts = [tgt[0], tgt[0].removesuffix(".") + "?"]
    sides = traits([src[0]] * 2), traits(texts)
    odd = agreement(*sides, usual)[1, NAMES.index("ending")]
    count = len(NAMES) + 1
    weight = np.zeros(count)
    weight[1 + NAMES.index("ending")] = -1.0
    for spread, found in ((odd / 1.5, -1.5), (odd / 9, -MOST_OF_A_MARK)):
        score = NearMissScore(usual, np.zeros(count), np.full(count, spread), weight, 0.0)
        usual_score, odd_score = score(np.ones(2, np.float32), *sides)
        assert usual_score == pytest.approx(0, abs=0.05)
        assert odd_score == pytest.approx(found)
    # Numbers and lengths count as they are.
    weight = np.zeros(count)
    weight[1 + NAMES.index("numbers")] = -1.0
    other = traits([src[0]]), traits([tgt[0].replace(" 0 keer", " 7 keer")])
    score = NearMissScore(usual, np.zeros(count), np.full(count, 0.1), weight, 0.0)
    assert score(np.ones(1, np.float32), *other)[0] == pytest.approx(-10)
