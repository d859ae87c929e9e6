"""The second null: how many of the pairs are near misses, and how likely each is whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xalign_dist.config import ScoringConfig
from xalign_dist.records import Float32
from xalign_dist.scoring.calibrate import bootstrap, storey
from xalign_dist.scoring.histogram import Evidence, Float64, Histogram
from xalign_dist.scoring.near_miss import GROUPS, LEAST_MISSES, NEIGHBOUR, NearMisses, NearMissScore, fit
from xalign_dist.scoring.traits import Traits, traits

# Low ones: a sound pair may look like the less obvious near misses, hardly one like the obvious.
QUANTILES = (0.1, 0.2, 0.3)
SCORE_RANGE = 16.0

# No group is taken to hold fewer, so that its pairs have an order.
LEAST_RATE = 0.005
ROUNDS = 2
MOST_NEIGHBOURS = 0.03


@dataclass(frozen=True, slots=True)
class Rate:
    """Estimated share of one group of near misses among the matched pairs, and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Partial:
    """What near misses say of a group: their rates by name, and the confidence of any of its pairs.

    ``scores``: for each group of near misses, the log odds against them and the rate that counts.
    """

    rates: dict[str, Rate]
    scores: list[tuple[NearMissScore, float]]

    def confidence(self, cosine_N: Float32, src: Traits, tgt: Traits) -> Float32:
        """Probability that each pair says the whole of the same, given that it is no mismatch, ``[N]``.

        With s_g the log odds of an observed pair against a near miss of group g, and r_g their rate::

            confidence = 1 / (1 + sum_g r_g exp(-s_g))
        """
        odds_N = np.zeros(len(cosine_N))
        for score, rate in self.scores:
            odds_N += _odds(score(cosine_N, src, tgt), rate)
        return (1 / (1 + odds_N)).astype(np.float32)


def partial_translations(
    src: Traits,
    tgt: Traits,
    cosine_N: Float32,
    matched_N: Float64,
    misses: NearMisses,
    cfg: ScoringConfig,
    rng: np.random.Generator,
) -> Partial | None:
    """What near misses of some pairs say of their group.

    r is Storey's estimate, of which the lower end is used: text that is short or of many
    formulas (software) has pairs that look like near misses and are none, and a rate too high
    would throw out half of a clean corpus. For neighbours alone r is at most :data:`MOST_NEIGHBOURS`:
    where a corpus has many sentences of one form, their share cannot be told (it came out at 40
    to 100 % for four languages of Django catalogs in which every sixth pair is mismatched).

    Args:
        src: of the source texts of a group or of a sample of it, N.
        tgt: of their targets.
        cosine_N: of the pairs.
        matched_N: probability that each is no mismatch; 0 for what its text condemns.
        misses: near misses of some of the rows.
        cfg: ``scoring`` of the config.
        rng: of the bootstrap.

    Returns:
        None where ``cfg.min_pairs`` are not there to learn from, or no near misses.
    """
    if len(cosine_N) < cfg.min_pairs or matched_N.sum() < cfg.min_pairs:
        return None
    rates: dict[str, Rate] = {}
    scores: list[tuple[NearMissScore, float]] = []
    for name, kinds in GROUPS.items():
        own = misses.only(kinds)
        if len(own.row_M) < LEAST_MISSES:
            continue
        most = MOST_NEIGHBOURS if kinds == (NEIGHBOUR,) else 1.0
        own_src, own_tgt = src.take(own.row_M), traits(own.text)
        odds_N = np.zeros(len(cosine_N))
        # First against all that is matched, near misses among it; then against what seems whole.
        for _ in range(ROUNDS):
            score = fit(src, tgt, cosine_N, matched_N / (1 + odds_N), own, text=most == 1.0)
            pair_N = score(cosine_N, src, tgt)
            rate = _rate(pair_N, score(own.cosine_M, own_src, own_tgt), matched_N, own, rng)
            counted = float(np.clip(rate.low, LEAST_RATE, most))
            odds_N = _odds(pair_N, counted)
        # Of neighbours alone the rate is no finding, see above: it is not reported.
        if most == 1.0:
            rates[name] = rate
        scores.append((score, counted))
    return Partial(rates, scores) if rates else None


def _odds(score_N: Float64, rate: float) -> Float64:
    return np.asarray(rate * np.exp(-np.clip(score_N, -30, 30)), np.float64)


def _rate(
    pair_N: Float64, miss_M: Float64, matched_N: Float64, misses: NearMisses, rng: np.random.Generator
) -> Rate:
    evidence = Evidence(
        Histogram.of(_scaled(pair_N), matched_N),
        Histogram.of(_scaled(miss_M), np.maximum(matched_N[misses.row_M], 1e-6)),
        float(len(np.unique(misses.row_M))),
    )
    value = _estimate(evidence)
    low, high = bootstrap(evidence, _estimate, rng)
    return Rate(value, min(low, value), max(high, value))


def _estimate(evidence: Evidence) -> float:
    return storey(evidence.observed, evidence.null, QUANTILES)


def _scaled(score_N: Float64) -> Float32:
    """Log odds in the histogram's range, [0, 2)."""
    return np.asarray(1 + np.clip(score_N / SCORE_RANGE, -1, 0.999), np.float32)
