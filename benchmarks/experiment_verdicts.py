"""Each claim of the paper: what was seen, what counts as shown, and whether it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from experiment_claims import RESAMPLES, TASKS, UNSEEN, Arm, Groups, Test
from scipy.stats import t as student

from tuning.components import FULL, INFONCE
from xalign_dist.evaluation.scores import Float64
from xalign_dist.evaluation.seeds import crossed_draws
from xalign_dist.evaluation.significance import holm, percentile_interval, two_sided_p

LEVEL = 0.05
WITHOUT = "without "
UNTRAINED = frozenset({"initial", "static", "PPMI vectors", "USE multilingual"})
OTHERS = tuple(task for task in TASKS if task != "retrieval")
LOW_TASKS = ("retrieval", "lexicon", "classification")
PURPOSE: Mapping[str, tuple[str, Sequence[str], str]] = {
    "filter": ("retrieval", ("retrieval",), "all"),
    "pseudo-labels": ("the mean of the low-resource languages' tasks", LOW_TASKS, "low"),
}
"""What a part is for, its tasks and languages: wrong pairs spoil sentences, mining is for languages
without pairs. Any other part is for all. Written down after seed 0 and before seeds 1 and 2."""
FOUR = ("the mean of the four tasks", tuple(TASKS), "all")
PEER = "InfoNCE by sentence-transformers"
Arms = Mapping[str, list[Arm]]
Means = tuple[Float64, Float64]


@dataclass(frozen=True)
class Claim:
    """``seen`` and ``goal`` are for readers; ``value`` None where the claim is made of several tests."""

    what: str
    seen: str
    goal: str
    shown: bool
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def verdicts(arms: Arms, groups: Groups, tests: Sequence[Test]) -> list[Claim]:
    """All claims, in the order of the paper."""
    baselines = [name for name in (INFONCE, "static", "PPMI vectors", "initial") if name in arms]
    return [
        *(_beats(name, tests) for name in baselines),
        *_parts(arms, groups),
        *_figures(arms, groups),
        *_peer(arms, groups),
    ]


def _beats(baseline: str, tests: Sequence[Test]) -> Claim:
    """Above a baseline in retrieval and two of the other tasks, in none below; p after Holm."""
    rows = {t.task: t for t in tests if t.what == f"{FULL} - {baseline}" and t.group == "all"}
    better = [task for task, t in rows.items() if t.p < LEVEL and t.difference > 0]
    worse = [task for task, t in rows.items() if t.p < LEVEL and t.difference < 0]
    shown = "retrieval" in better and len(set(better) & set(OTHERS)) >= 2 and not worse
    seen = f"better in {', '.join(better) or 'nothing'}; worse in {', '.join(worse) or 'nothing'}"
    goal = "p < .05 in retrieval and two others; none worse"
    return Claim(f"above {baseline}", seen, goal, shown)


def _parts(arms: Arms, groups: Groups) -> list[Claim]:
    """Each part that is on: without it, what it is for falls; and, as a claim of its own, all four tasks."""
    names = [name for name in arms if name.startswith(WITHOUT)]
    own = {name: PURPOSE.get(name.removeprefix(WITHOUT), FOUR) for name in names}
    rest = {name: FOUR for name in names if own[name] != FOUR}
    return [*_falls(arms, groups, own), *_falls(arms, groups, rest)]


def _falls(arms: Arms, groups: Groups, wanted: Mapping[str, tuple[str, Sequence[str], str]]) -> list[Claim]:
    """Holm over these claims."""
    seen = [
        _gap(*_over_tasks(arms, [n, FULL], tasks, group, groups)) for n, (_, tasks, group) in wanted.items()
    ]
    corrected = holm([p for *_, p in seen])
    return [
        Claim(
            f"{name}: {what} falls",
            f"{value:+.3f} ({low:+.3f} to {high:+.3f}), p {p:.2g}",
            "below 0, p < .05",
            bool(value < 0 and p < LEVEL),
            value,
            low,
            high,
            float(p),
        )
        for (name, (what, *_)), (value, low, high, _), p in zip(wanted.items(), seen, corrected, strict=True)
    ]


def _figures(arms: Arms, groups: Groups) -> list[Claim]:
    """The claims that are one figure with a goal, of the arms that are there."""
    unseen = [task for task in TASKS if arms[FULL][0].parts(task, UNSEEN, groups)]
    rows = (
        ("low-resource retrieval over fixed InfoNCE", _gap, [FULL, INFONCE], ["retrieval"], "low", 0.10),
        (
            "share of the oracle's gain, low-resource retrieval",
            _share,
            [FULL, "oracle", "initial"],
            ["retrieval"],
            "low",
            0.90,
        ),
        (
            "share of clean data's gain, retrieval",
            _share,
            [FULL, "clean", "initial"],
            ["retrieval"],
            "all",
            0.95,
        ),
        (
            "languages not in training against the initial encoder, mean of tasks",
            _gap,
            [FULL, "initial"],
            unseen,
            UNSEEN,
            -0.01,
        ),
    )
    seen = [
        (what, *of(*_over_tasks(arms, names, tasks, group, groups))[:3], goal)
        for what, of, names, tasks, group, goal in rows
        if set(names) <= set(arms)
    ]
    return [
        Claim(
            what,
            f"{value:+.3f} ({low:+.3f} to {high:+.3f})",
            f"at least {goal:.2f}",
            value >= goal,
            value,
            low,
            high,
        )
        for what, value, low, high, goal in seen
    ]


def _peer(arms: Arms, groups: Groups) -> list[Claim]:
    """Whether another trainer's InfoNCE could be one more seed of ours (Crawford & Howell 1998).

    One case against n others: ``t = (x - mean) / (sd sqrt(1 + 1/n))`` with n - 1 degrees of freedom.
    """
    if PEER not in arms or len(arms[INFONCE]) < 2:
        return []
    seeds = len(arms[INFONCE])
    gaps, p_values = [], []
    for task in TASKS:
        ours = [arm.value(task, "all", groups) for arm in arms[INFONCE]]
        gap = arms[PEER][0].value(task, "all", groups) - float(np.mean(ours))
        scale = float(np.std(ours, ddof=1)) * np.sqrt(1 + 1 / seeds)
        gaps.append(gap)
        p_values.append(float(2 * student.sf(abs(gap) / max(scale, 1e-12), seeds - 1)))
    corrected = holm(p_values)
    seen = ", ".join(f"{t} {g:+.3f} (p {p:.2g})" for t, g, p in zip(TASKS, gaps, corrected, strict=True))
    goal = "no p under .05"
    return [Claim(f"{PEER} is like one more seed of ours", seen, goal, bool(corrected.min() >= LEVEL))]


def _over_tasks(arms: Arms, names: Sequence[str], tasks: Iterable[str], group: str, groups: Groups) -> Means:
    """Mean over ``tasks`` of the macro average of each arm of ``names``: float64 ``[A]``, draws ``[B, A]``.

    Over the seeds that all of them have; a model without training is the same under every seed.
    """
    seeds = min(len(arms[name]) for name in names if name not in UNTRAINED)
    same = [arms[n] * seeds if n in UNTRAINED else arms[n][:seeds] for n in names]
    parts = [
        crossed_draws(
            [[one.parts(task, group, groups) for one in arm] for arm in same],
            resamples=RESAMPLES,
            stream=number,
        )
        for number, task in enumerate(tasks)
    ]
    return np.mean([p[0] for p in parts], axis=0), np.mean([p[1] for p in parts], axis=0)


def _gap(observed_A: Float64, draws_BA: Float64) -> tuple[float, float, float, float]:
    """First minus second, its interval, and p."""
    value, draws_B = float(observed_A[0] - observed_A[1]), draws_BA[:, 0] - draws_BA[:, 1]
    return value, *percentile_interval(draws_B, 0.95), two_sided_p(draws_B, value)


def _share(observed_A: Float64, draws_BA: Float64) -> tuple[float, float, float]:
    """(ours - start) / (ceiling - start) of ours, ceiling, start, and its interval."""
    ours_B, ceiling_B, start_B = draws_BA.T
    ours, ceiling, start = observed_A
    draws_B = (ours_B - start_B) / (ceiling_B - start_B)
    return float((ours - start) / (ceiling - start)), *percentile_interval(draws_B, 0.95)
