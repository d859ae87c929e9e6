"""What the report shows of metrics.json and comparisons.json: tables, forest plot, heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xalign_dist.evaluation.metrics import GROUP_NAMES, base_task, lower_is_better
from xalign_dist.reporting import formats
from xalign_dist.reporting.charts import Axis
from xalign_dist.reporting.differences import Difference
from xalign_dist.reporting.names import (
    HEADLINE,
    INFONCE,
    INITIAL,
    is_judged,
    is_share,
    language_name,
    model_label,
    model_order,
    task_label,
    task_order,
)
from xalign_dist.reporting.results import (
    Point,
    Results,
    common_verdict,
    difference_key,
    find_differences,
)

_MOST_FOREST_ROWS = 40
_MOST_TESTED = 1200


@dataclass(frozen=True, slots=True)
class Cell:
    """A value in a table; ``title`` is the interval in words."""

    text: str
    sort: float | None
    title: str
    best: bool = False


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One metric of one group of languages, all models."""

    label: str
    group: str
    cells: list[Cell]
    gains: list[tuple[str, str, float | None]]


def summary_rows(results: Results, differences: Sequence[Difference]) -> list[SummaryRow]:
    """Every metric over all, high- and low-resource languages; gains over the baselines with verdict."""
    out = []
    for key in GROUP_NAMES:
        for task, metric in results.rows:
            points = [results.point(m, task, metric, key) for m in results.models]
            if not any(points):
                continue
            lower = lower_is_better(task, metric)
            judged = is_judged(task, metric)
            label = task_label(task, metric) + (" (less is better)" if lower and judged else "")
            share = is_share(task)
            gains = [
                _gain(results, differences, task, metric, key, baseline)
                for baseline in gain_baselines(results)
            ]
            cells = _cells(points, share, lower)
            if not judged:
                cells = [replace(c, best=False) for c in cells]
                gains = [(text, "", gain) for text, _, gain in gains]
            out.append(SummaryRow(label, key, cells, gains))
    return out


def gain_baselines(results: Results) -> list[str]:
    """The baselines against which gains are shown, those that were measured."""
    return [b for b in (INITIAL, INFONCE) if b in results.models and b != results.ours]


def _gain(
    results: Results, differences: Sequence[Difference], task: str, metric: str, key: str, baseline: str
) -> tuple[str, str, float | None]:
    gain = results.gain(results.ours, baseline, task, metric, key)
    verdict = common_verdict(find_differences(differences, task, metric, key, baseline))
    return formats.signed(gain, is_share(task)), verdict, gain


def _cells(points: Sequence[Point | None], share: bool, lower: bool) -> list[Cell]:
    values = [p.value for p in points if p]
    best = (min(values) if lower else max(values)) if len(values) > 1 else None
    return [
        Cell(
            formats.value(p.value, share) if p else formats.NONE,
            p.value if p else None,
            f"95 % interval {formats.interval(p.low, p.high, share)}, n = {formats.count(p.n)}" if p else "",
            p is not None and p.value == best,
        )
        for p in points
    ]


@dataclass(frozen=True, slots=True)
class Dot:
    """A model's mark in a row plot; ``low`` and ``high`` None: no interval."""

    model: str
    label: str
    at: str
    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class LanguageRow:
    """One language: values of all models, their plot, and the gains."""

    key: str
    name: str
    group: str
    cells: list[Cell]
    dots: list[Dot]
    gains: list[tuple[str, str, float | None]]


@dataclass(frozen=True, slots=True)
class LanguageTable:
    """One task by language."""

    title: str
    unit: str
    ticks: list[tuple[str, str]]
    rows: list[LanguageRow]


def language_tables(results: Results, differences: Sequence[Difference]) -> list[LanguageTable]:
    """Retrieval by language, then pooled retrieval, then the lexicon: the headline metric of each."""
    tasks = [t for base in ("retrieval", "pooled_retrieval", "lexicon") for t in results.tasks(base)]
    out = []
    for task in tasks:
        metric = HEADLINE[base_task(task)]
        keys = results.languages(task, metric)
        if keys:
            out.append(_language_table(results, differences, task, metric, keys))
    return out


def _language_table(
    results: Results, differences: Sequence[Difference], task: str, metric: str, keys: Sequence[str]
) -> LanguageTable:
    share = is_share(task)
    by_key = {k: [results.point(m, task, metric, k) for m in results.models] for k in keys}
    found = [p for points in by_key.values() for p in points if p]
    axis = Axis.around([v for p in found for v in (p.low, p.value, p.high)], [0.0, 1.0] if share else [])
    rows = []
    for key, points in by_key.items():
        gains = [_gain(results, differences, task, metric, key, b) for b in gain_baselines(results)]
        rows.append(
            LanguageRow(
                key,
                language_name(key),
                results.group(key) or "other",
                _cells(points, share, lower=False),
                [_dot(m, p, axis) for m, p in zip(results.models, points, strict=True) if p],
                gains,
            )
        )
    ticks = [(axis.at(v), formats.percent(v, 0) if share else formats.tick(v)) for v in axis.ticks(4)]
    return LanguageTable(task_label(task, metric), "%" if share else "", ticks, rows)


def _dot(model: str, point: Point, axis: Axis) -> Dot:
    low = axis.at(point.low) if point.low is not None else None
    high = axis.at(point.high) if point.high is not None else None
    return Dot(model, model_label(model), axis.at(point.value), low, high)


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One difference with its interval."""

    label: str
    group: str
    at: str
    low: str | None
    high: str | None
    gain: str
    interval: str
    p: str
    verdict: str
    note: str
    n: int


@dataclass(frozen=True, slots=True)
class Forest:
    """Differences from one baseline; ``zero`` is where no difference lies."""

    baseline: str
    zero: str
    ticks: list[tuple[str, str]]
    rows: list[ForestRow]


def forests(differences: Sequence[Difference]) -> list[Forest]:
    """One forest plot per baseline, fixed InfoNCE first: headline metrics over groups of languages.

    Without group rows those of single language pairs are shown. Errors are turned round: right is
    always better.
    """
    out = []
    baselines = sorted({d.baseline for d in differences}, key=lambda b: (b != INFONCE, model_order(b)))
    for baseline in baselines:
        rows = [d for d in differences if d.baseline == baseline]
        rows = [d for d in rows if HEADLINE.get(base_task(d.task)) == d.metric] or rows
        rows = ([d for d in rows if d.lang in GROUP_NAMES] or rows)[:_MOST_FOREST_ROWS]
        rows.sort(key=lambda d: task_order(d.task, d.metric))
        out.append(_forest(baseline, rows))
    return out


def _forest(baseline: str, rows: Sequence[Difference]) -> Forest:
    ends = [v for d in rows for v in (d.gain, *(d.gain_interval or ()))]
    axis = Axis.around(ends, [0.0])
    pad = 0.05 * (axis.high - axis.low)
    axis = Axis(axis.low - pad, axis.high + pad)
    ticks = [(axis.at(v), formats.signed(v).replace(".0", "")) for v in axis.ticks(5)]
    return Forest(model_label(baseline), axis.at(0.0), ticks, [forest_row(d, axis) for d in rows])


def forest_row(d: Difference, axis: Axis) -> ForestRow:
    """A difference placed on ``axis``."""
    low, high = d.gain_interval or (None, None)
    return ForestRow(
        task_label(d.task, d.metric),
        language_name(difference_key(d)),
        axis.at(d.gain),
        None if low is None else axis.at(low),
        None if high is None else axis.at(high),
        formats.signed(d.gain, d.share),
        formats.interval(low, high, d.share, sign=True),
        formats.p_value(d.corrected),
        d.verdict if d.corrected is not None else "",
        d.note,
        d.n,
    )


def tested_rows(differences: Sequence[Difference]) -> list[tuple[Difference, str]]:
    """Comparisons with their language in words, groups first; at most ``_MOST_TESTED``."""
    rows = sorted(differences, key=lambda d: d.lang not in GROUP_NAMES)
    return [(d, language_name(d.lang)) for d in rows[:_MOST_TESTED]]
