"""Two runs compared: what is significantly better or worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.box import HORIZONTALS
from rich.table import Table
from rich.text import Text

from xalign_dist.errors import DataError
from xalign_dist.evaluation.compare import FINEST_PER_ROW
from xalign_dist.evaluation.metrics import ALL, GROUP_NAMES, lower_is_better
from xalign_dist.evaluation.scores import MIN_TEST_ITEMS, ItemScores
from xalign_dist.evaluation.significance import holm, paired_permutation
from xalign_dist.records import text_keys
from xalign_dist.reporting import formats
from xalign_dist.reporting.differences import LEVEL
from xalign_dist.reporting.files import join, read_rows
from xalign_dist.reporting.names import is_judged, is_share, language_key, language_name, task_label
from xalign_dist.reporting.results import Point, Results
from xalign_dist.reporting.run_data import language_groups, load_run

ITEMS_FILE = "items.parquet"
_ITEM_COLUMNS = ["model", "task", "metric", "lang", "item", "score"]
_SHARED_VALUE = 1e-6
_NORMAL_95 = 1.959963984540054

# (task, metric) -> language as in the file -> item -> score
_Items = dict[tuple[str, str], dict[str, dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both runs.

    Attributes:
        p: Holm-corrected, None where there was nothing to test with.
        how: ``items``: paired permutation over the same items; ``intervals``: from both intervals.
        verdict: ``better``, ``worse``, or ``same`` where chance explains it or nothing was tested.
    """

    task: str
    metric: str
    key: str
    ours: Point
    theirs: Point
    p: float | None = None
    how: str = ""
    verdict: str = "same"


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Every figure that both runs measured; ``unmatched`` counts those of one run alone."""

    rows: Sequence[Row]
    unmatched: int = 0

    @property
    def significant_loss(self) -> bool:
        """Whether a figure is significantly worse."""
        return any(r.verdict == "worse" for r in self.rows)

    def table(self) -> Table:
        """Averages of every figure, and every language with a significant change."""
        table = Table(
            title="This run against the other",
            caption=self._caption(),
            box=HORIZONTALS,
            pad_edge=False,
            title_justify="left",
            caption_justify="left",
        )
        for name in ("", "this", "other", "difference", "p"):
            table.add_column(name, justify="right" if name else "left")
        for r in self.rows:
            if r.key not in GROUP_NAMES and r.verdict == "same":
                continue
            share = is_share(r.task)
            style = {"better": "green", "worse": "red"}.get(r.verdict, "")
            table.add_row(
                Text(f"{task_label(r.task, r.metric)}, {language_name(r.key)}"),
                formats.value(r.ours.value, share),
                formats.value(r.theirs.value, share),
                Text(formats.signed(r.ours.value - r.theirs.value, share), style=style),
                formats.p_value(r.p),
            )
        return table

    def _caption(self) -> str:
        worse = sum(r.verdict == "worse" for r in self.rows)
        better = sum(r.verdict == "better" for r in self.rows)
        text = f"{len(self.rows)} figures: {better} significantly better, {worse} worse (Holm, p < {LEVEL})"
        return text + (f"; {self.unmatched} measured in one run only" if self.unmatched else "")


def compare_runs(run: str, other: str, *, permutations: int = 2000, seed: int = 0) -> RunComparison:
    """The final model of ``run`` against that of ``other``.

    Where both runs hold the same items (RUN/items.parquet: model, task, metric, lang, item, score)
    the test is a paired permutation. Else it rests on the two intervals: the runs count as
    independent, p comes from the intervals' widths (normal), and the intervals must not overlap
    either, which alone is stricter than a 5 % test (Schenker & Gentleman 2001). p-values are
    Holm-corrected, averages and single languages each among themselves.

    Args:
        run: run directory.
        other: what it is compared with.
        permutations: of the paired test.
        seed: of the permutations.

    Raises:
        DataError: a run cannot be read, or the two share no figure.
    """
    ours, theirs = _results(run), _results(other)
    if ours.ours is None or theirs.ours is None:
        raise DataError(f"{run if ours.ours is None else other}: no metrics.json", "finish that run first")
    mine, his = _items(run, ours.ours), _items(other, theirs.ours)
    shared, unmatched = [], 0
    for task, metric in dict.fromkeys([*ours.rows, *theirs.rows]):
        for key in _keys(ours, theirs, task, metric):
            one, two = ours.point(ours.ours, task, metric, key), theirs.point(theirs.ours, task, metric, key)
            if one is None or two is None:
                unmatched += (one is None) != (two is None)
                continue
            shared.append(Row(task, metric, key, one, two))
    if not shared:
        raise DataError(f"{run} and {other} share no figure", "evaluate both runs on one suite")
    draws = permutations, max(permutations, FINEST_PER_ROW * len(shared))
    rows = [_tested(row, mine, his, ours.groups, draws, seed) for row in shared]
    return RunComparison(_judged(rows), unmatched)


def _results(run: str) -> Results:
    data = load_run(run)
    return Results(data.metrics, language_groups(data))


def _keys(ours: Results, theirs: Results, task: str, metric: str) -> list[str]:
    found = [*ours.languages(task, metric), *theirs.languages(task, metric)]
    return list(dict.fromkeys([*GROUP_NAMES, *found]))


def _items(run: str, model: str) -> _Items:
    out: _Items = {}
    for r in read_rows(join(run, ITEMS_FILE), _ITEM_COLUMNS) or []:
        if r["model"] == model:
            by_lang = out.setdefault((r["task"], r["metric"]), {})
            by_lang.setdefault(str(r["lang"]), {})[str(r["item"])] = float(r["score"])
    return out


def _tested(
    row: Row, mine: _Items, his: _Items, groups: Mapping[str, str], draws: tuple[int, int], seed: int
) -> Row:
    """``row`` with its uncorrected p; ``draws``: permutations, and how many where these tell no p from 0."""
    if not is_judged(row.task, row.metric):
        return row
    a, b = (_parts(items, row, groups) for items in (mine, his))
    if a and a.keys() == b.keys() and all(a[k].keys() == b[k].keys() for k in a):
        one, two = _scores(a), _scores(b)
        enough = sum(map(len, one)) >= MIN_TEST_ITEMS
        if enough and _is_mean(one, row.ours) and _is_mean(two, row.theirs):
            p = paired_permutation(one, two, permutations=draws[0], finest=draws[1], seed=seed)
            return replace(row, p=p, how="items")
    p_or_none = _interval_p(row.ours, row.theirs)
    return row if p_or_none is None else replace(row, p=p_or_none, how="intervals")


def _parts(items: _Items, row: Row, groups: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Items of the language pairs behind a row."""

    def belongs(lang: str) -> bool:
        key = language_key(*lang.split("-", 1)) if "-" in lang else lang
        found = {groups.get(part) for part in key.split("-")}
        group = "low" if "low" in found else "high" if "high" in found else None
        return row.key in (ALL, key, group)

    return {k: v for k, v in items.get((row.task, row.metric), {}).items() if belongs(k)}


def _scores(parts: Mapping[str, Mapping[str, float]]) -> list[ItemScores]:
    out = []
    for _, by_item in sorted(parts.items()):
        names = sorted(by_item)
        out.append(ItemScores.mean(np.array([by_item[n] for n in names]), text_keys(names)))
    return out


def _is_mean(parts: Sequence[ItemScores], point: Point) -> bool:
    """Whether the metric is the mean of these items; F1 and the like are not."""
    return abs(float(np.mean([p.value for p in parts])) - point.value) < _SHARED_VALUE


def _interval_p(one: Point, two: Point) -> float | None:
    if one.low is None or one.high is None or two.low is None or two.high is None:
        return None
    error = math.hypot(one.high - one.low, two.high - two.low) / (2 * _NORMAL_95)
    gap = abs(one.value - two.value)
    return math.erfc(gap / error / math.sqrt(2)) if error > 0 else float(gap == 0)


def _judged(rows: Sequence[Row]) -> list[Row]:
    out = list(rows)
    for groups in (True, False):
        family = [i for i, r in enumerate(rows) if r.p is not None and (r.key in GROUP_NAMES) == groups]
        corrected: Any = holm([p for i in family if (p := rows[i].p) is not None])
        for i, p in zip(family, corrected, strict=True):
            out[i] = replace(rows[i], p=float(p), verdict=_verdict(rows[i], float(p)))
    return out


def _verdict(row: Row, p: float) -> str:
    one, two = row.ours, row.theirs
    if p >= LEVEL or one.value == two.value:
        return "same"
    if row.how == "intervals" and _overlap(one, two):
        return "same"
    more = one.value > two.value
    return "better" if more != lower_is_better(row.task, row.metric) else "worse"


def _overlap(one: Point, two: Point) -> bool:
    if one.low is None or one.high is None or two.low is None or two.high is None:
        return True
    return one.low <= two.high and two.low <= one.high
