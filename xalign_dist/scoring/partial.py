"""The second null: how many of the pairs are near misses, and how likely each is whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xalign_dist.config import ScoringConfig
from xalign_dist.records import Float32
from xalign_dist.scoring.calibrate import storey, storey_interval
from xalign_dist.scoring.histogram import Evidence, Float64, Histogram
from xalign_dist.scoring.near_miss import GROUPS, LEAST_MISSES, NEIGHBOUR, NearMisses, fit
from xalign_dist.scoring.traits import traits

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
    """What near misses say of a group: their rates by name, and the confidence of each pair.

    ``confidence_N`` is the probability that a pair says the whole of the same, float32 ``[N]``.
    """

    rates: dict[str, Rate]
    confidence_N: Float32


def partial_translations(
    src: Sequence[str],
    tgt: Sequence[str],
    cosine_N: Float32,
    matched_N: Float64,
    misses: NearMisses,
    cfg: ScoringConfig,
    rng: np.random.Generator,
) -> Partial | None:
    """Probability that each pair says the whole of the same, given that it is no mismatch.

    With s_g the log odds of an observed pair against a near miss of group g, and r_g their rate::

        confidence = 1 / (1 + sum_g r_g exp(-s_g))

    r is Storey's estimate, of which the lower end is used: text that is short or of many
    formulas (software) has pairs that look like near misses and are none, and a rate too high
    would throw out half of a clean corpus. For neighbours alone r is at most :data:`MOST_NEIGHBOURS`:
    where a corpus has many sentences of one form, their share cannot be told (it came out at 40
    to 100 % for four languages of Django catalogs in which every sixth pair is mismatched).

    Args:
        src: source texts of a group, N.
        tgt: their targets.
        cosine_N: of the pairs.
        matched_N: probability that each is no mismatch; 0 for what its text condemns.
        misses: near misses of some of the rows.
        cfg: ``scoring`` of the config.
        rng: of the bootstrap.

    Returns:
        None where ``cfg.min_pairs`` are not there to learn from, or no near misses.
    """
    if len(src) < cfg.min_pairs or matched_N.sum() < cfg.min_pairs:
        return None
    src_traits, tgt_traits = traits(src), traits(tgt)
    rates: dict[str, Rate] = {}
    odds_N = np.zeros(len(src))
    for name, kinds in GROUPS.items():
        own = misses.only(kinds)
        if len(own.row_M) < LEAST_MISSES:
            continue
        most = MOST_NEIGHBOURS if kinds == (NEIGHBOUR,) else 1.0
        odds = np.zeros(len(src))
        # First against all that is matched, near misses among it; then against what seems whole.
        for _ in range(ROUNDS):
            score = fit(src_traits, tgt_traits, cosine_N, matched_N / (1 + odds), own, text=most == 1.0)
            pair_N = score(cosine_N, src_traits, tgt_traits)
            miss_M = score(own.cosine_M, src_traits.take(own.row_M), traits(own.text))
            rate = _rate(pair_N, miss_M, matched_N, own, rng)
            odds = np.clip(rate.low, LEAST_RATE, most) * np.exp(-np.clip(pair_N, -30, 30))
        # Of neighbours alone the rate is no finding, see above: it is not reported.
        if most == 1.0:
            rates[name] = rate
        odds_N += odds
    return Partial(rates, (1 / (1 + odds_N)).astype(np.float32)) if rates else None


def _rate(
    pair_N: Float64, miss_M: Float64, matched_N: Float64, misses: NearMisses, rng: np.random.Generator
) -> Rate:
    evidence = Evidence(
        Histogram.of(_scaled(pair_N), matched_N),
        Histogram.of(_scaled(miss_M), np.maximum(matched_N[misses.row_M], 1e-6)),
        float(len(np.unique(misses.row_M))),
    )
    value = storey(evidence.observed, evidence.null, QUANTILES)
    low, high = storey_interval(evidence, rng, QUANTILES)
    return Rate(value, min(low, value), max(high, value))


def _scaled(score_N: Float64) -> Float32:
    """Log odds in the histogram's range, [0, 2)."""
    return np.asarray(1 + np.clip(score_N / SCORE_RANGE, -1, 0.999), np.float32)
