"""Noise rate and confidence recovered where the truth is known; merged evidence equals whole evidence."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.scoring.calibrate import calibrate, cut_for, local_confidence, noise_rate, storey, weigh_null
from xalign_dist.scoring.histogram import BINS, Evidence, Histogram, bin_centres, bin_of

CLEAN, NOISE = (1.12, 0.04), (0.98, 0.02)


def sample(noise: float, pairs: int, seed: int) -> tuple[Evidence, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    wrong = rng.random(pairs) < noise
    margin = np.where(wrong, rng.normal(*NOISE, pairs), rng.normal(*CLEAN, pairs)).astype(np.float32)
    null = rng.normal(*NOISE, pairs * 5)
    return Evidence(Histogram.of(margin), Histogram.of(null), pairs), margin, wrong


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3, 0.6])
@pytest.mark.parametrize(("pairs", "off"), [(400, 0.07), (4000, 0.03)])
def test_noise_rate_is_recovered_and_its_interval_holds_it(noise: float, pairs: int, off: float) -> None:
    evidence, margin, wrong = sample(noise, pairs, seed=1)
    found = calibrate(evidence, 40, 100, 0.2, np.random.default_rng(0))
    assert found.stable
    assert abs(found.pi0 - wrong.mean()) < off
    assert found.low - 0.01 <= wrong.mean() <= found.high + 0.01
    confidence = found.confidence(margin)
    assert (confidence > 0.5)[~wrong].mean() >= 0.97
    assert abs((1 - confidence).mean() - wrong.mean()) < 0.06
    order = np.argsort(margin)
    assert (np.diff(confidence[order]) >= 0).all()


def test_few_pairs_fall_back_on_the_prior_and_say_so() -> None:
    evidence, margin, _ = sample(0.3, 60, seed=2)
    found = calibrate(evidence, 40, 100, 0.2, np.random.default_rng(0))
    assert not found.stable
    assert found.pi0 == 0.2
    assert "60 pairs" in found.note
    assert "prior_noise" in found.note
    assert np.isfinite(found.confidence(margin)).all()


def test_an_encoder_that_knows_nothing_is_unstable() -> None:
    rng = np.random.default_rng(3)
    alike = Evidence(Histogram.of(rng.normal(*NOISE, 2000)), Histogram.of(rng.normal(*NOISE, 10000)), 2000)
    found = calibrate(alike, 40, 100, 0.2, rng)
    assert not found.stable
    assert "score like decoys" in found.note
    assert found.pi0 == 0.2


def test_no_decoys_at_all() -> None:
    found = calibrate(Evidence(Histogram.of(np.ones(200))), 40, 100, 0.2, np.random.default_rng(0))
    assert not found.stable
    assert found.confidence(np.array([0.5, 1.5], np.float32)).tolist() == pytest.approx([0.8, 0.8])
    assert found.chart(0.5) is None


@pytest.mark.parametrize("shards", [1, 2, 4, 7])
def test_evidence_of_shards_adds_up(shards: int) -> None:
    evidence, margin, _ = sample(0.3, 3000, seed=4)
    null = np.random.default_rng(5).normal(*NOISE, 9000)
    order = np.random.default_rng(6).permutation(shards)
    parts = [
        Evidence(Histogram.of(margin[i::shards]), Histogram.of(null[i::shards]), len(margin[i::shards]))
        for i in order
    ]
    whole = Evidence(evidence.observed, Histogram.of(null), 3000)
    left = calibrate(Evidence.merge(parts), 40, 100, 0.2, np.random.default_rng(0))
    right = calibrate(whole, 40, 100, 0.2, np.random.default_rng(0))
    assert (left.pi0, left.low, left.high) == (right.pi0, right.low, right.high)
    assert (left.confidence_K == right.confidence_K).all()


def test_null_is_weighted_to_rows_that_look_like_noise() -> None:
    # Noise rows draw lower decoys than clean rows: the plain null finds too much noise.
    rng = np.random.default_rng(7)
    pairs, noise = 3000, 0.4
    wrong = rng.random(pairs) < noise
    margin = np.where(wrong, rng.normal(0.96, 0.02, pairs), rng.normal(1.12, 0.04, pairs)).astype(np.float32)
    i, j = rng.integers(0, pairs, (2, 15000))
    centre = 0.96 + 0.01 * (~wrong[i]).astype(float) + 0.01 * (~wrong[j])
    decoys = rng.normal(centre, 0.02).astype(np.float32)
    plain = storey(Histogram.of(margin), Histogram.of(decoys), (0.5, 0.7, 0.9))
    weighted = weigh_null(margin, decoys, (i, j), 40)
    assert plain - wrong.mean() > 0.08
    assert abs(storey(weighted.observed, weighted.null, (0.5, 0.7, 0.9)) - wrong.mean()) < 0.03
    assert abs(noise_rate(weighted) - wrong.mean()) < 0.03
    assert weighted.null.total == pytest.approx(wrong.sum(), rel=0.1)


def test_cut_keeps_as_much_as_the_target_allows() -> None:
    confidence = np.array([1.0] * 90 + [0.8] * 10 + [0.6] * 10 + [0.1] * 5, np.float32)
    assert cut_for(confidence, 0.02) == pytest.approx(0.8)
    assert cut_for(confidence, 0.06) == pytest.approx(0.6)
    assert cut_for(confidence, 0.001) == 1.0
    assert cut_for(confidence, 0.9) == 0.5
    assert cut_for(np.full(20, 0.7, np.float32), 0.02) == pytest.approx(0.7)
    assert cut_for(confidence[:0], 0.02) == 0.5


def test_margins_beyond_the_range_go_to_the_outermost_bins() -> None:
    assert bin_of(np.array([-50.0, -1.0, 2.9999, 3.0, 80.0])).tolist() == [0, 0, BINS - 1, BINS - 1, BINS - 1]
    assert Histogram.merge([]).total == 0
    knots, confidence = local_confidence(Evidence(), 0.3, 40)
    assert (knots.tolist(), confidence.tolist()) == ([1.0], [0.7])


def drawn(clean: float, noise: float, pairs: int, seed: int) -> tuple[Evidence, float]:
    """Margins about 1 (noise) and about ``clean``; and the share that is noise."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(pairs) < noise
    margin = rng.normal(np.where(wrong, 1.0, clean), 0.05).astype(np.float32)
    null = rng.normal(1.0, 0.05, pairs * 4).astype(np.float32)
    return Evidence(Histogram.of(margin), Histogram.of(null), pairs), float(wrong.mean())


def test_a_few_hundred_pairs_give_the_noise_rate_within_two_points() -> None:
    found = [drawn(1.3, 0.6, 435, seed) for seed in range(60)]
    off = [noise_rate(evidence) - truth for evidence, truth in found]
    assert abs(np.mean(off)) < 0.01
    assert np.std(off) < 0.02
    low = [storey(e.observed, e.null, (0.5, 0.7, 0.9)) - truth for e, truth in found]
    assert np.std(off) < 0.8 * np.std(low)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize(("pairs", "most"), [(435, 0.1), (20_000, 0.04)])
def test_translations_that_score_like_decoys_are_hardly_counted_as_noise(
    noise: float, pairs: int, most: float
) -> None:
    """A weak encoder: a quarter of its translations lie below the highest tenth of the decoys.

    What is let through is three standard errors of the lower quantiles, less with more pairs.
    """
    found = [drawn(1.1, noise, pairs, seed) for seed in range(20)]
    off = np.mean([noise_rate(evidence) - truth for evidence, truth in found])
    assert 0 <= off < most
    high = np.mean([storey(evidence.observed, evidence.null, (0.9,)) - truth for evidence, truth in found])
    assert high > 1.8 * off


def test_a_corpus_of_noise_is_told_without_bias() -> None:
    """Chance in its bins goes up and down alike: the confidences add up to the clean pairs that are there."""
    evidence, truth = zip(*(drawn(1.3, 0.9, 1000, n) for n in range(10)), strict=True)
    found = [calibrate(e, 40, 100, 0.2, np.random.default_rng(0)) for e in evidence]
    sums = [
        1 - float(np.average(np.interp(bin_centres(), f.knots_K, f.confidence_K), weights=e.observed.counts))
        for f, e in zip(found, evidence, strict=True)
    ]
    assert abs(np.mean(np.subtract(sums, truth))) < 0.02
