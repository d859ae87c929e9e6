"""benchmarks/experiment_verdicts.py: a claim is shown where the items bear it, and not otherwise."""

from __future__ import annotations

import experiment_claims as paper
import numpy as np
import pytest
from experiment_verdicts import PEER, Claim, verdicts

from xalign_dist.evaluation.scores import ItemScores

GROUPS = {"high": frozenset({"deu"}), "low": frozenset({"swh"})}
LANGS = ("eng-deu", "eng-swh", "eng-zul")


def arm(share: dict[str, float], seed: int = 0, of: int = 400) -> paper.Arm:
    """A model whose first ``share[task]`` of the items are right; ``seed`` turns over a few of them."""
    rng = np.random.default_rng(seed)
    items = {}
    for task, rows in paper.TASKS.items():
        right = (np.arange(of) < share[task] * of).astype(float)
        flipped = rng.integers(0, of, 4)
        right[flipped] = 1 - right[flipped]
        for name, metric in rows:
            for lang in LANGS:
                items[name, metric, lang] = ItemScores.mean(right)
    return paper.Arm(items)


def world(**changes: dict[str, float]) -> dict[str, list[paper.Arm]]:
    """Full .7 in every task, initial .4, oracle and clean .7, InfoNCE .5; with ``changes``."""
    shares = {"full": 0.7, "fixed InfoNCE": 0.5, "oracle": 0.7, "clean": 0.7, "initial": 0.4, "static": 0.2}
    tasks = {name: dict.fromkeys(paper.TASKS, value) for name, value in shares.items()}
    tasks["without filter"] = dict.fromkeys(paper.TASKS, 0.65)
    for name, change in changes.items():
        tasks[name.replace("_", " ")] |= change
    counts = {"oracle": 1, "clean": 1, "initial": 1, "static": 1}
    return {n: [arm(s, seed=k) for k in range(counts.get(n, 3))] for n, s in tasks.items()}


def found(arms: dict[str, list[paper.Arm]]) -> dict[str, Claim]:
    full = arms["full"]
    tests = paper.corrected(
        [
            paper.difference(f"full - {name}", task, "all", full, arms[name], GROUPS)
            for name in ("fixed InfoNCE", "static", "initial")
            for task in paper.TASKS
        ]
    )
    return {c.what: c for c in verdicts(arms, GROUPS, tests)}


def test_what_holds_is_shown() -> None:
    claims = found(world())
    assert len(claims) == 3 + 2 + 4
    assert all(c.shown for c in claims.values()), [c for c in claims.values() if not c.shown]
    low = claims["low-resource retrieval over fixed InfoNCE"]
    assert low.value == pytest.approx(0.2, abs=0.02)
    assert low.low < low.value < low.high
    part = claims["without filter: the mean of the four tasks falls"]
    assert part.value == pytest.approx(-0.05, abs=0.02)
    assert claims["share of the oracle's gain, low-resource retrieval"].value == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"fixed_InfoNCE": {"cross-lingual search": 0.8}}, ["above fixed InfoNCE"]),
        ({"static": {"lexicon": 0.7, "classification": 0.7}}, ["above static"]),
        (
            {"without_filter": {"retrieval": 0.8, "lexicon": 0.75, "classification": 0.7}},
            ["without filter: retrieval falls", "without filter: the mean of the four tasks falls"],
        ),
        (
            {"without_filter": {"lexicon": 0.75, "classification": 0.75, "cross-lingual search": 0.75}},
            ["without filter: the mean of the four tasks falls"],
        ),
        (
            {"fixed_InfoNCE": {"retrieval": 0.62}},
            ["low-resource retrieval over fixed InfoNCE"],
        ),
        ({"oracle": {"retrieval": 0.75}}, ["share of the oracle's gain, low-resource retrieval"]),
        ({"clean": {"retrieval": 0.75}}, ["share of clean data's gain, retrieval"]),
    ],
)
def test_what_does_not_hold_is_not(change: dict, lost: list[str]) -> None:
    claims = found(world(**change))
    assert [what for what, c in claims.items() if not c.shown] == lost


def test_a_language_that_is_forgotten_is_seen() -> None:
    arms = world()
    for one in arms["full"]:
        for (task, metric, lang), items in one.items.items():
            if lang == "eng-zul":
                one.items[task, metric, lang] = ItemScores.mean(0.5 * items.values)
    claims = found(arms)
    kept = claims["languages not in training against the initial encoder, mean of tasks"]
    assert not kept.shown
    assert kept.value == pytest.approx(0.35 - 0.4, abs=0.02)


def test_what_a_part_is_for_is_judged_by_itself() -> None:
    arms = world()
    arms["without pseudo-labels"] = [arm(dict.fromkeys(paper.TASKS, 0.7), s) for s in range(3)]
    what = "without pseudo-labels: the mean of the low-resource languages' tasks falls"
    assert not found(arms)[what].shown
    for one in arms["without pseudo-labels"]:
        for (task, metric, lang), items in one.items.items():
            if lang == "eng-swh":
                one.items[task, metric, lang] = ItemScores.mean(0.9 * items.values)
    assert found(arms)[what].shown


@pytest.mark.parametrize(("share", "shown"), [(0.5, True), (0.6, False)])
def test_another_trainer_may_be_one_more_seed(share: float, shown: bool) -> None:
    arms = world()
    arms[PEER] = [arm(dict.fromkeys(paper.TASKS, share), seed=9)]
    claim = found(arms)[f"{PEER} is like one more seed of ours"]
    assert claim.shown is shown
    del arms["fixed InfoNCE"][1:]
    assert not any("one more seed" in what for what in found(arms))
