"""metrics.json as a lookup: one point per model, task, metric and language, of the final round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xalign_dist.evaluation.metrics import ALL, GROUP_NAMES, base_task
from xalign_dist.records import Metric
from xalign_dist.reporting.differences import Difference
from xalign_dist.reporting.names import (
    ADAPTIVE,
    CORPUS_TASKS,
    HEADLINE,
    language_key,
    language_name,
    model_order,
    task_order,
)

_GROUP_ORDER = {"high": 0, "low": 1}


@dataclass(frozen=True, slots=True)
class Point:
    """A value with its interval (None: not computed) and the items behind it."""

    value: float
    low: float | None
    high: float | None
    n: int


class Results:
    """Final figures of every model.

    Both directions of a language pair are shown as one: their mean, with the mean of their bounds
    (not narrower than the interval of the mean). Several seeds: the mean, with the outermost bounds.
    """

    def __init__(self, metrics: Iterable[Metric], groups: Mapping[str, str]) -> None:
        """``groups``: language -> ``high`` or ``low`` (``run_data.language_groups``)."""
        self.groups = dict(groups)
        kept = final_round([m for m in metrics if base_task(m.task) not in CORPUS_TASKS])
        self._points = _points(kept)
        self.models = sorted({m.model for m in kept}, key=model_order)
        self.rows = sorted({(m.task, m.metric) for m in kept}, key=lambda row: task_order(*row))

    @property
    def ours(self) -> str | None:
        """The model the run is about: ``adaptive``, else the last one."""
        if ADAPTIVE in self.models:
            return ADAPTIVE
        return self.models[-1] if self.models else None

    def point(self, model: str, task: str, metric: str, key: str) -> Point | None:
        """``key``: a language (or pair without English), or ``all``, ``high``, ``low``."""
        return self._points.get((model, task, metric, key))

    def gain(self, model: str | None, baseline: str, task: str, metric: str, key: str) -> float | None:
        """``model`` minus ``baseline``, None where either was not measured."""
        one = self.point(model, task, metric, key) if model else None
        two = self.point(baseline, task, metric, key)
        return one.value - two.value if one and two else None

    def tasks(self, base: str) -> list[str]:
        """Keys of a kind of task: ``retrieval`` -> ``retrieval``, ``retrieval:ntrex``."""
        return [t for t in dict.fromkeys(task for task, _ in self.rows) if base_task(t) == base]

    def headline_rows(self) -> list[tuple[str, str]]:
        """One row per task: the metric that stands for it."""
        return [(t, m) for t, m in self.rows if HEADLINE.get(base_task(t)) == m]

    def languages(self, task: str, metric: str) -> list[str]:
        """Languages measured: high-resource first, then low, then those not trained on, by name."""
        found = {k for _, t, m, k in self._points if (t, m) == (task, metric)} - set(GROUP_NAMES)
        return sorted(found, key=lambda k: (_GROUP_ORDER.get(self.group(k) or "", 2), language_name(k)))

    def group(self, key: str) -> str | None:
        """``high``, ``low`` or None of a language; a pair is as hard as its harder side."""
        found = {self.groups.get(part) for part in key.split("-")}
        return "low" if "low" in found else "high" if "high" in found else None


def find_differences(
    rows: Sequence[Difference], task: str, metric: str, key: str, baseline: str
) -> list[Difference]:
    """Rows of one language (both directions) or group against one baseline."""
    return [
        d
        for d in rows
        if (d.task, d.metric, d.baseline) == (task, metric, baseline) and difference_key(d) == key
    ]


def difference_key(row: Difference) -> str:
    """The language key of a row: ``eng-deu`` and ``deu-eng`` -> ``deu``; groups as they are."""
    src, dash, tgt = row.lang.partition("-")
    return language_key(src, tgt) if dash else row.lang


def common_verdict(rows: Sequence[Difference]) -> str:
    """``better`` or ``worse`` if every direction is, else ``same``; empty without any test."""
    tested = {d.verdict for d in rows if d.corrected is not None}
    return "" if not tested else tested.pop() if len(tested) == 1 else "same"


def final_round(metrics: Sequence[Metric]) -> list[Metric]:
    """Rows of the last round of each model, task and metric."""
    last: dict[tuple[str, str, str], int] = {}
    for m in metrics:
        key = (m.model, m.task, m.metric)
        last[key] = max(last.get(key, m.round), m.round)
    return [m for m in metrics if m.round == last[m.model, m.task, m.metric]]


def _points(metrics: Sequence[Metric]) -> dict[tuple[str, str, str, str], Point]:
    by_seed: dict[tuple[str, str, str, str], dict[int, list[Metric]]] = {}
    for m in metrics:
        if m.src_lang == m.tgt_lang and m.src_lang not in GROUP_NAMES:
            continue  # documents in the query's own language: no cross-lingual result
        key = (m.model, m.task, m.metric, language_key(m.src_lang, m.tgt_lang))
        by_seed.setdefault(key, {}).setdefault(m.seed, []).append(m)
    return {key: _over_seeds([_over_directions(rows) for rows in s.values()]) for key, s in by_seed.items()}


def _over_directions(rows: Sequence[Metric]) -> Point:
    value = sum(m.value for m in rows) / len(rows)
    lows = [m.low for m in rows if m.low is not None]
    highs = [m.high for m in rows if m.high is not None]
    n = sum(m.n for m in rows)
    if len(lows) < len(rows) or len(highs) < len(rows):
        return Point(value, None, None, n)
    return Point(value, sum(lows) / len(rows), sum(highs) / len(rows), n)


def _over_seeds(points: Sequence[Point]) -> Point:
    value = sum(p.value for p in points) / len(points)
    lows = [p.low for p in points if p.low is not None]
    highs = [p.high for p in points if p.high is not None]
    complete = len(lows) == len(highs) == len(points)
    n = max(p.n for p in points)
    return Point(value, min(lows), max(highs), n) if complete else Point(value, None, None, n)


def headline_task(results: Results) -> tuple[str, str] | None:
    """The row the verdict rests on: pooled retrieval, else retrieval, else the first there is."""
    for base in ("pooled_retrieval", "retrieval"):
        rows = [
            (t, m)
            for t, m in results.headline_rows()
            if base_task(t) == base and results.point(results.ours or "", t, m, ALL)
        ]
        if rows:
            return rows[0]
    rows = results.headline_rows() or results.rows
    return rows[0] if rows else None
