"""How many candidates are false, without gold: every confident pair is parted once, as an experiment.

A confident source without its translation is a source like those that never had one. What it
then pairs with (:func:`~xalign_dist.mining.match.bereave`) went through the same selection as
every false candidate: best in both directions against the whole corpus. So their strengths
are the strengths of false candidates. How many those are is estimated twice, and the larger counts:

- from how often it happens: with N, M the sentences of the sides, C the sum of confidences, and q
  the share of parted sources that pair again, ``(N - C) q_src``, and ``(M - C) q_tgt`` from the targets'
  side; the mean of both. It is too small where translated sentences are of another kind (another
  outlet, other topics) than the rest, who then find more of their own kind than a parted one does:
  half of the truth for de, es and fr on eval_mining.
- from the weak end (Storey 2002): translations are hardly ever weaker than the median parted pair, so
  false candidates are twice the candidates below it, times the prior that a candidate is false. A
  false one needs two sentences without translation, a right one two that have theirs: with
  ``u = 1 - C/N, v = 1 - C/M`` the prior is ``u v / (u v + (1 - u) (1 - v))``. It is .93 to 1 where most
  sentences stand alone (eval_mining) and next to nothing in a parallel corpus, whose few parted pairs
  that happen are as strong as many translations: without it 66 of 249 right candidates were kept of
  314 Django messages, with it all.

Confidence = 1 - (density of the false) / (density of the candidates), made monotone; C follows from it;
iterated until it settles. Without the second estimate the belief of many false pairs fed itself (parting
a false pair gives a weaker one): fr kept 787 pairs of which half were right.

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
        self.happens = [event.happens for event, _ in parted]
        self.false = np.concatenate([event.strength[event.happens] for event, _ in parted])
        self.order = np.argsort(self.false, kind="stable")
        agrees_F = np.concatenate([same[event.happens] for event, same in parted])
        # The strengths stay what they are while belief and bootstrap draws change: they are binned once.
        self.strata = [
            (rows, false, _Bins(self.strength[rows], self.false[false]))
            for rows, false in _strata(self.agrees, agrees_F)
        ]

    def null(self, confidence_C: Float64, count_C: Float64) -> Float64:
        """Expected number of every false pair that came about.

        Args:
            confidence_C: of the candidates.
            count_C: how often each of them counts (1, or its bootstrap draw).
        """
        total = max(float(confidence_C.sum()), 1.0)
        weights, expected = [], 0.0
        for size, happens in zip(self.sizes, self.happens, strict=True):
            weights.append((confidence_C * count_C)[happens])
            expected += float(weights[-1].sum()) / total * max(size - total, 1.0) / len(self.sizes)
        weight = np.concatenate(weights)
        if weight.sum() > 0:
            weak = 2 * float(count_C[self.strength <= self._median(weight)].sum())
            weak *= both_alone(total, self.sizes)
            weight *= min(max(expected, weak), float(count_C.sum())) / weight.sum()
        return weight

    def _median(self, weight_F: Float64) -> float:
        reached = np.cumsum(weight_F[self.order])
        return float(self.false[self.order[np.searchsorted(reached, reached[-1] / 2)]])

    def unseen(self, confidence_C: Float64) -> Float64:
        """How many missed false pairs are as strong as each candidate, ``[C]``."""
        total = max(float(confidence_C.sum()), 1.0)
        unmatched = sum(max(size - total, 1.0) for size in self.sizes) / len(self.sizes)
        return UNSEEN * unmatched / total**2 * confidence_C

    def confidence(self, before_C: Float64, draw: np.random.Generator | None = None) -> Float64:
        """One step: confidence from the null that follows from the confidence before.

        With ``draw`` the step is taken on a bootstrap sample of candidates, parted pairs with them.
        """
        if before_C.sum() < 1:
            # No one was parted: a null without events would make every candidate certain.
            return np.zeros(len(self.strength))
        count_C = np.ones(len(self.strength))
        if draw is not None:
            count_C = draw.poisson(1.0, len(count_C)).astype(np.float64)
        weight_F, unseen_C = self.null(before_C, count_C), self.unseen(before_C)
        after = np.zeros(len(self.strength))
        for rows, false, bins in self.strata:
            after[rows] = bins.confidence(count_C[rows], weight_F[false], unseen_C[rows])
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


def both_alone(matched: float, sizes: tuple[int, int]) -> float:
    """Prior that a pair is false: both its sentences are alone, against both having their translation.

    Args:
        matched: sentences of each side that are believed to have one.
        sizes: sentences of the sides.
    """
    src, tgt = (min(max(1 - matched / size, 0.0), 1.0) for size in sizes)
    alone, together = src * tgt, (1 - src) * (1 - tgt)
    return alone / (alone + together) if alone + together > 0 else 0.5


class _Bins:
    """Candidates of one kind in bins of equal size by strength, and false pairs in the same bins."""

    def __init__(self, strength_C: Float32, false_F: Float32) -> None:
        count = int(np.clip(len(strength_C) / CANDIDATES_PER_BIN, 1, MOST_BINS))
        edges = np.unique(np.quantile(strength_C, np.arange(1, count) / count)) if count > 1 else np.zeros(0)
        self.strength, self.bins = strength_C, len(edges) + 1
        self.place, self.false = np.searchsorted(edges, strength_C), np.searchsorted(edges, false_F)

    def confidence(self, count_C: Float64, weight_F: Float64, unseen_C: Float64) -> Float64:
        """Monotone confidence of the candidates by strength, ``[C]``.

        Args:
            count_C: how often each counts (1, or its bootstrap draw).
            weight_F: how many candidates each false pair stands for.
            unseen_C: how many missed false pairs are as strong as each candidate.
        """
        seen = np.bincount(self.place, count_C, self.bins)
        false = np.bincount(self.false, weight_F, self.bins) + np.bincount(self.place, unseen_C, self.bins)
        full = np.flatnonzero(seen)
        if not len(full):
            return np.zeros(len(count_C))
        centre = np.bincount(self.place, count_C * self.strength, self.bins)[full] / seen[full]
        raw = np.clip(1 - false[full] / seen[full], 0, 1)
        smooth = isotonic_regression(raw, weights=seen[full]).x
        return np.asarray(np.interp(self.strength, centre, smooth), np.float64)


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
