"""From margins to confidence: decoys as the null, noise rate by Storey, local fdr by Efron.

With f the density of the observed margins, f0 that of mismatched pairs and pi0 the share of
mismatched pairs among the observed (Storey 2002; at which quantile: Lepski 1990)::

    confidence(m) = 1 - pi0 f0(m) / f(m)          (1 - local false discovery rate, Efron 2001)

made monotone in m. The null is weighted to rows that look like noise themselves: a row whose
translation is in the corpus has other neighbours than one whose translation is not, and with
all rows alike the noise rate came out 3-11 points too high at 30-60 % noise, against 0-5 with
the weights (Django catalogs, seven languages).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from xalign_dist.records import Float32, Int64
from xalign_dist.scoring.histogram import BINS, Evidence, Float64, Histogram, bin_centres, bin_of

QUANTILES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""High ones vary less; too high ones count translations that a weak encoder scores like decoys."""
STANDARD_ERRORS = 3.0
PAIRS_PER_BIN = 20
LEAST_WEIGHT = 0.02
ROUNDS = 20
SETTLED = 1e-3
RESAMPLES = 200
INTERVAL = (2.5, 97.5)
INDISTINCT = 0.95
CHART_RANGE = (0.002, 0.998)
CHART_BINS = 60
WIDEST_INTERVAL = 0.4
LEAST_CONFIDENCE = 0.5
"""A pair that is more likely noise than not never passes, however clean the rest is."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Noise rate of a group of pairs, and its map from margin to confidence.

    Attributes:
        pi0: estimated share of mismatched pairs; the prior where ``stable`` is False.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        stable: whether the estimate can be trusted.
        note: why not, or empty.
        evidence: the histograms behind it, for reports.
        knots_K: margins, ascending, between which confidence is interpolated.
        confidence_K: confidence at the knots, not descending.
    """

    pi0: float
    low: float
    high: float
    stable: bool
    note: str
    evidence: Evidence
    knots_K: Float64
    confidence_K: Float64

    def confidence(self, margin_N: Float32) -> Float32:
        """Probability that each pair is a translation, float32 ``[N]`` in [0, 1]."""
        found = np.interp(np.asarray(margin_N, np.float64), self.knots_K, self.confidence_K)
        return found.astype(np.float32)

    def chart(self, threshold: float) -> dict[str, Any] | None:
        """The distributions for a report, and the margin at which confidence reaches ``threshold``.

        None where there are no pairs or no decoys.
        """
        observed, null = self.evidence.observed, self.evidence.null
        if observed.total <= 0 or null.total <= 0:
            return None
        ends = bin_centres()[np.r_[observed.quantile_bins(CHART_RANGE), null.quantile_bins(CHART_RANGE)]]
        edges = np.linspace(ends.min() - 0.01, ends.max() + 0.01, CHART_BINS + 1)
        reached = np.flatnonzero(self.confidence_K >= threshold)
        return {
            "edges": edges.round(5).tolist(),
            "observed": observed.coarse(edges).round(2).tolist(),
            "null": null.coarse(edges).round(2).tolist(),
            "threshold": float(self.knots_K[reached[0]]) if len(reached) else None,
        }


def calibrate(
    evidence: Evidence, bins: int, min_pairs: int, prior_noise: float, rng: np.random.Generator
) -> Calibration:
    """Estimate the noise rate and the map from margin to confidence.

    Args:
        evidence: of the whole group, merged over its parts.
        bins: quantile bins of the local false discovery rate, fewer where pairs are few.
        min_pairs: fewer pairs fall back on the prior.
        prior_noise: noise rate assumed where the estimate is unstable.
        rng: of the bootstrap.
    """
    pairs = evidence.observed.total
    low, high = (0.0, 1.0)
    pi0 = prior_noise
    note = ""
    if pairs < min_pairs:
        note = f"{int(pairs)} pairs, fewer than scoring.min_pairs={min_pairs}"
    elif evidence.null.total <= 0:
        note = "all texts of one side are equal: no decoys"
    else:
        pi0 = noise_rate(evidence)
        low, high = bootstrap(evidence, noise_rate, rng)
        if pi0 > INDISTINCT:
            note = "pairs score like decoys: all noise, or an encoder that does not know the language"
        elif high - low > WIDEST_INTERVAL:
            note = f"noise rate lies anywhere between {low:.2f} and {high:.2f}"
    if note:
        pi0, note = prior_noise, f"{note}; noise rate {prior_noise} assumed (scoring.prior_noise)"
    knots, confidence = local_confidence(evidence, pi0, bins)
    return Calibration(pi0, low, high, not note, note, evidence, knots, confidence)


def noise_rate(evidence: Evidence) -> float:
    """Share of the observed that the null explains, in [0, 1]: pi0.

    With ``t_q`` the q-quantile of the null, ``R(q) = F(t_q) / F0(t_q)`` (Storey 2002) is pi0 up to chance
    as long as next to no translations lie below ``t_q``, and its error falls with q; beyond, it rises.
    Taken is the highest q of :data:`QUANTILES` whose R, and that of each q before it, lies no more
    than :data:`STANDARD_ERRORS` above any lower one (Lepski 1990).
    """
    observed, null = evidence.observed, evidence.null
    at = null.quantile_bins(QUANTILES)
    below_Q = np.clip(null.below()[at], 1e-9, 1)
    rate_Q = observed.below()[at] / below_Q
    pairs = max(observed.total, 1.0)
    rows = evidence.null_rows or pairs
    error_Q = np.sqrt((1 - below_Q) / below_Q * (np.maximum(rate_Q, 1 / pairs) / pairs + rate_Q**2 / rows))
    limit_Q = np.minimum.accumulate(rate_Q + STANDARD_ERRORS * error_Q)
    too_high = np.flatnonzero(rate_Q[1:] > limit_Q[:-1])
    return float(np.clip(rate_Q[too_high[0] if len(too_high) else -1], 0, 1))


def storey(observed: Histogram, null: Histogram, quantiles: tuple[float, ...]) -> float:
    """Mean over ``quantiles`` of ``R(q)`` as in :func:`noise_rate`, in [0, 1]."""
    at = null.quantile_bins(quantiles)
    return float(np.clip(np.mean(observed.below()[at] / np.maximum(null.below()[at], 1e-9)), 0, 1))


def local_confidence(evidence: Evidence, pi0: float, bins: int) -> tuple[Float64, Float64]:
    """Knots (margins) and the monotone confidence at each; one knot of ``1 - pi0`` without decoys."""
    observed, null = evidence.observed, evidence.null
    if observed.total <= 0 or null.total <= 0:
        return np.array([1.0]), np.array([1 - pi0])
    wanted = int(np.clip(observed.total / PAIRS_PER_BIN, 1, bins))
    last = np.unique(observed.quantile_bins(np.arange(1, wanted + 1) / wanted))
    last[-1] = len(observed.counts) - 1
    cut = [0, *(last[:-1] + 1)]
    seen = np.add.reduceat(observed.counts, cut)
    expected = np.add.reduceat(null.counts, cut) * (observed.total / null.total)
    centre = np.add.reduceat(observed.counts * bin_centres(), cut) / np.maximum(seen, 1e-12)
    raw = 1 - pi0 * expected / np.maximum(seen, 1e-12)
    # Cut to [0, 1] at the end: cut before, chance in bins of noise would count upwards only.
    return centre, np.clip(isotonic_regression(raw, weights=seen).x, 0, 1).astype(np.float64)


def weigh_null(margin_N: Float32, decoy_M: Float32, decoy_rows: tuple[Int64, Int64], bins: int) -> Evidence:
    """Observed and null of one block, the null weighted to rows that look like noise.

    A decoy of rows i and j weighs (1 - confidence_i)(1 - confidence_j) under the confidences
    that follow from the null so weighted, iterated until the noise rate settles.

    Args:
        margin_N: margins of the pairs.
        decoy_M: margins of the decoys.
        decoy_rows: source rows and target rows of the decoys.
        bins: as in :func:`calibrate`.
    """
    observed = Histogram.of(margin_N)
    if not len(decoy_M):
        return Evidence(observed)
    place_M, place_N = bin_of(decoy_M), bin_of(margin_N)
    weight_N = np.ones(len(margin_N))
    before = 1.0
    for _ in range(ROUNDS):
        weight_M = weight_N[decoy_rows[0]] * weight_N[decoy_rows[1]]
        null = Histogram(np.bincount(place_M, weight_M, BINS).astype(np.float64))
        evidence = Evidence(observed, null, _rows_behind(weight_N))
        pi0 = noise_rate(evidence)
        knots, confidence = local_confidence(evidence, pi0, bins)
        doubt = 1 - np.interp(bin_centres(), knots, confidence)
        weight_N = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * doubt[place_N]
        if abs(pi0 - before) < SETTLED:
            break
        before = pi0
    whole = Histogram(null.counts * (weight_N.sum() / null.total))
    return Evidence(observed, whole, _rows_behind(weight_N))


def _rows_behind(weight_N: Float64) -> float:
    """How many rows of equal weight would vary as much (Kish 1965)."""
    return float(weight_N.sum() ** 2 / (weight_N**2).sum())


def cut_for(confidence_N: Float32, target_noise: float, noise_N: Float32 | None = None) -> float:
    """Least confidence to keep so that the expected noise among the kept is the target at most.

    The expected noise of a set is the mean of ``noise_N``, each pair's probability of being noise
    (None: 1 - confidence). Never below :data:`LEAST_CONFIDENCE`; where no set is clean enough, the
    highest confidence there is.
    """
    if not len(confidence_N):
        return LEAST_CONFIDENCE
    order = np.argsort(-np.asarray(confidence_N, np.float64), kind="stable")
    best_first = np.asarray(confidence_N, np.float64)[order]
    each = 1 - best_first if noise_N is None else np.asarray(noise_N, np.float64)[order]
    noise = np.cumsum(each) / np.arange(1, len(best_first) + 1)
    # A tie is kept whole or not at all, so only the last of equal confidences may end the set.
    ends = np.append(best_first[1:] < best_first[:-1], True)
    allowed = np.flatnonzero((noise <= target_noise) & ends)
    cut = best_first[allowed[-1]] if len(allowed) else best_first[0]
    return max(LEAST_CONFIDENCE, float(cut))


def bootstrap(
    evidence: Evidence, estimate: Callable[[Evidence], float], rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of ``estimate``, from resamples of both histograms."""
    found = []
    for _ in range(RESAMPLES):
        observed = _resample(evidence.observed, evidence.observed.total, rng)
        null = _resample(evidence.null, evidence.null_rows, rng)
        found.append(estimate(Evidence(observed, null, evidence.null_rows)))
    low, high = np.percentile(found, INTERVAL)
    return float(low), float(high)


def _resample(histogram: Histogram, rows: float, rng: np.random.Generator) -> Histogram:
    filled = np.flatnonzero(histogram.counts)
    share: npt.NDArray[np.float64] = histogram.counts[filled] / histogram.total
    counts = np.zeros_like(histogram.counts)
    counts[filled] = rng.multinomial(max(1, round(rows)), share)
    return Histogram(counts)
