"""How many candidates are false, without gold: every confident pair is parted once, as an experiment.

A confident source without its translation is a source like those that never had one. What it
then pairs with (:func:`~xalign_dist.mining.match.bereave`) went through the same selection as
every false candidate: best in both directions against the whole corpus. So with

- N, M the sentences of the sides, C the sum of confidences, q(s) the share of parted sources
  whose new pair has strength s or more,

the expected number of false candidates of strength s or more is ``(N - C) q_src(s)``, and from the
targets' side ``(M - C) q_tgt(s)``; the mean of both is taken. Confidence = 1 - (density of the
false) / (density of the candidates), made monotone; C follows from it; iterated until it settles.

C parted pairs cannot show what happens once in more than C times, yet each of them stands for
(N - C) / C false candidates. So :data:`UNSEEN` more are taken to have happened, spread over the
candidates by confidence: about ``UNSEEN (N - C) / C^2`` off the confidence, nothing where many are
believed (N = 2,200, C = 400: .01) and all of it where a handful is (C = 46).

Masking all confident pairs at once (and taking the mutual best of the rest) counts runner-ups of
everything and found .72 false where .59 were (sw-en).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from xalign_dist.mining.consistency import agreement
from xalign_dist.mining.match import Bool, Candidates, View, bereave, partner_without
from xalign_dist.records import Float32, Int64

Float64 = npt.NDArray[np.float64]

CANDIDATES_PER_BIN = 20
MOST_BINS = 40
SETTLED = 1e-3
START = 0.5
UNSEEN = 1.0
"""False pairs, spread as the believed ones are, that the experiment is taken to have missed."""
LEAST_CANDIDATES = 50
LEAST_EVENTS = 15.0
LEAST_EVENTS_APART = 30
RESAMPLES = 100
WIDEST_INTERVAL = 0.3
HARDLY_BETTER = 0.65


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is believed of the candidates.

    Attributes:
        confidence: probability that each candidate is a translation, float32 ``[C]``.
        agrees: whether the second view names the same pair; all True without a second view.
        low: lower end of the 95 % bootstrap interval of the mean confidence.
        high: upper end.
        stable: whether there was enough to go by.
        note: why not, or empty.
        iterations: until it settled.
    """

    confidence: Float32
    agrees: Bool
    low: float
    high: float
    stable: bool
    note: str
    iterations: int


class _Experiment:
    """Strengths of the candidates and of what parted pairs would take, by agreement of the views."""

    def __init__(self, found: Candidates, view: View, second: View | None) -> None:
        self.sizes = (len(view.src.ids), len(view.tgt.ids))
        self.strength = found.strength
        self.agrees = _agreement(second, found.src, found.tgt)
        parted = []
        for one, other, own, partner in (
            (view, second, found.src, found.tgt),
            (view.flipped(), second.flipped() if second else None, found.tgt, found.src),
        ):
            event = bereave(one, own, partner)
            same = np.ones(len(own), np.bool_)
            if other is not None:
                same = partner_without(other, own, partner) == event.partner
            parted.append((event, same))
        self.parted = parted

    def null(self, confidence_C: Float64) -> tuple[Float32, Float64, Bool]:
        """Strength, expected number and agreement of every false pair that came about."""
        total = max(float(confidence_C.sum()), 1.0)
        strengths, weights, agrees = [], [], []
        for size, (event, same) in zip(self.sizes, self.parted, strict=True):
            unmatched = max(size - total, 1.0)
            strengths.append(event.strength[event.happens])
            weights.append(confidence_C[event.happens] * (unmatched / total / len(self.sizes)))
            agrees.append(same[event.happens])
        return np.concatenate(strengths), np.concatenate(weights), np.concatenate(agrees)

    def unseen(self, confidence_C: Float64) -> Float64:
        """How many missed false pairs are as strong as each candidate, ``[C]``."""
        total = max(float(confidence_C.sum()), 1.0)
        unmatched = sum(max(size - total, 1.0) for size in self.sizes) / len(self.sizes)
        return UNSEEN * unmatched / total**2 * confidence_C

    def confidence(self, before_C: Float64, draw: np.random.Generator | None = None) -> Float64:
        """One step: confidence from the null that follows from the confidence before.

        With ``draw`` the step is taken on a bootstrap sample of candidates and false pairs.
        """
        if before_C.sum() < 1:
            # No one was parted: a null without events would make every candidate certain.
            return np.zeros(len(self.strength))
        strength, weight, same = self.null(before_C)
        unseen_C = self.unseen(before_C)
        count_C = np.ones(len(self.strength))
        if draw is not None:
            count_C = draw.poisson(1.0, len(count_C)).astype(np.float64)
            weight = weight * draw.poisson(1.0, len(weight))
        after = np.zeros(len(self.strength))
        for rows, false in _strata(self.agrees, same):
            after[rows] = local_confidence(
                self.strength[rows],
                count_C[rows],
                np.concatenate([strength[false], self.strength[rows]]),
                np.concatenate([weight[false], unseen_C[rows]]),
            )
        return after


def estimate(found: Candidates, view: View, second: View | None, iterations: int, seed: int) -> Estimate:
    """Confidence of every candidate, and how sure it is.

    Args:
        found: mutual-best pairs of ``view``.
        view: lists of both sides, merged over shards.
        second: the same under another embedding, or None. Pairs on which the views agree are
            calibrated apart from the others.
        iterations: at most.
        seed: of the bootstrap.
    """
    count = len(found.src)
    if count == 0:
        nothing = np.zeros(0, np.float32)
        return Estimate(nothing, np.zeros(0, np.bool_), 0.0, 1.0, False, "no candidates", 0)
    experiment = _Experiment(found, view, second)
    confidence = np.full(count, START)
    for used in range(1, iterations + 1):  # noqa: B007
        before, confidence = confidence, experiment.confidence(confidence)
        if np.abs(confidence - before).max() < SETTLED:
            break
    rng = np.random.default_rng(seed)
    means = [experiment.confidence(confidence, rng).mean() for _ in range(RESAMPLES)]
    low, high = (float(p) for p in np.percentile(means, (2.5, 97.5)))
    note = _doubts(confidence, low, high)
    return Estimate(confidence.astype(np.float32), experiment.agrees, low, high, not note, note, used)


def local_confidence(strength_C: Float32, count_C: Float64, false_F: Float32, weight_F: Float64) -> Float64:
    """Monotone confidence of candidates by strength, ``[C]``.

    Args:
        strength_C: of the candidates.
        count_C: how often each counts (1, or its bootstrap draw).
        false_F: strengths of false pairs.
        weight_F: how many candidates each of them stands for.
    """
    bins = int(np.clip(len(strength_C) / CANDIDATES_PER_BIN, 1, MOST_BINS))
    edges = np.unique(np.quantile(strength_C, np.arange(1, bins) / bins)) if bins > 1 else np.zeros(0)
    place = np.searchsorted(edges, strength_C)
    seen = np.bincount(place, count_C, len(edges) + 1)
    false = np.bincount(np.searchsorted(edges, false_F), weight_F, len(edges) + 1)
    full = np.flatnonzero(seen)
    if not len(full):
        return np.zeros(len(strength_C))
    centre = np.bincount(place, count_C * strength_C, len(edges) + 1)[full] / seen[full]
    raw = np.clip(1 - false[full] / seen[full], 0, 1)
    smooth = isotonic_regression(raw, weights=seen[full]).x
    return np.asarray(np.interp(strength_C, centre, smooth), np.float64)


def _agreement(second: View | None, src: Int64, tgt: Int64) -> Bool:
    return np.ones(len(src), np.bool_) if second is None else agreement(second, src, tgt)


def _strata(agrees_C: Bool, same_F: Bool) -> list[tuple[Bool, Bool]]:
    """Candidates and false pairs, agreeing and not apart where both have enough to be counted."""
    apart = [(agrees_C == kind, same_F == kind) for kind in (True, False)]
    sizes = [min(int(c.sum()), int(f.sum())) for c, f in apart]
    if min(sizes) < LEAST_EVENTS_APART:
        return [(np.ones_like(agrees_C), np.ones_like(same_F))]
    return apart


def _doubts(confidence_C: Float64, low: float, high: float) -> str:
    if len(confidence_C) < LEAST_CANDIDATES:
        return f"{len(confidence_C)} candidates, too few to calibrate"
    matched = float(confidence_C.sum())
    if matched < LEAST_EVENTS:
        return f"about {matched:.0f} confident pairs, too few to learn from"
    if high - low > WIDEST_INTERVAL:
        return f"the share of right candidates lies anywhere between {low:.2f} and {high:.2f}"
    likely = confidence_C[confidence_C > START]
    if len(likely) and likely.mean() < HARDLY_BETTER:
        return "even the best candidates are hardly more likely right than wrong"
    return ""
