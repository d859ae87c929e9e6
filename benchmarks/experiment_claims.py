"""What the experiment must show, computed from the items that every arm left behind.

Everything comes from the scores of items (experiment_kept.py): nothing is trained or embedded here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xalign_dist.corpora.languages import normalize_language
from xalign_dist.evaluation.metrics import counts_for, group_of
from xalign_dist.evaluation.scores import ItemScores
from xalign_dist.evaluation.seeds import crossed_bootstrap
from xalign_dist.evaluation.significance import holm

RESAMPLES = 10_000
Groups = dict[str, frozenset[str]]
Row = tuple[str, str]
"""(task, metric)."""
TASKS: dict[str, Sequence[Row]] = {
    "retrieval": (("retrieval:tatoeba", "accuracy"), ("retrieval:news", "accuracy")),
    "lexicon": (("lexicon", "p@1"),),
    "classification": (("classification", "accuracy"),),
    "cross-lingual search": (("clir", "mrr@10"),),
}
"""The figures of the claims; where there are two, each language pair of each counts once."""
UNSEEN = "unseen"


@dataclass(frozen=True)
class Arm:
    """One model under one seed: its items by (task, metric, language pair)."""

    items: dict[tuple[str, str, str], ItemScores]

    def parts(self, task: str, group: str, groups: Groups) -> list[ItemScores]:
        """Items of the language pairs of ``group`` (all, high, low, unseen) in a task of TASKS."""
        return [
            items
            for (name, metric, lang), items in sorted(self.items.items(), key=lambda kv: kv[0])
            if (name, metric) in TASKS[task] and _belongs(group, *lang.split("-", 1), groups)
        ]

    def value(self, task: str, group: str, groups: Groups) -> float:
        """Mean over language pairs."""
        return float(np.mean([p.value for p in self.parts(task, group, groups)]))


def _belongs(group: str, src: str, tgt: str, groups: Groups) -> bool:
    if group == UNSEEN:
        return src != tgt and group_of(src, tgt, groups) is None and bool({src, tgt} - {"eng", "all"})
    return counts_for(group, src, tgt, groups)


@dataclass(frozen=True)
class Test:
    """A difference between two arms over seeds and items. ``p`` is corrected by :func:`corrected`."""

    what: str
    task: str
    group: str
    ours: float
    theirs: float
    difference: float
    low: float
    high: float
    p: float


def difference(
    what: str, task: str, group: str, ours: Sequence[Arm], theirs: Sequence[Arm], groups: Groups
) -> Test:
    """``ours`` minus ``theirs``, paired by seed; an arm without training is repeated."""
    theirs = theirs if len(theirs) == len(ours) else list(theirs) * len(ours)
    a, b = ([arm.parts(task, group, groups) for arm in arms] for arms in (ours, theirs))
    found, low, high, p = crossed_bootstrap(a, b, resamples=RESAMPLES)
    means = [float(np.mean([arm.value(task, group, groups) for arm in arms])) for arms in (ours, theirs)]
    return Test(what, task, group, *means, found, low, high, p)


def corrected(tests: Sequence[Test]) -> list[Test]:
    """The same tests with Holm's p over all of them."""
    return [
        Test(**{**vars(t), "p": float(p)}) for t, p in zip(tests, holm([t.p for t in tests]), strict=True)
    ]


def suite_groups(high: Sequence[str], low: Sequence[str]) -> Groups:
    """As the suite has them."""
    return {
        "high": frozenset(map(normalize_language, high)),
        "low": frozenset(map(normalize_language, low)),
    }
