"""What each setting does to the metric, alone and in pairs: geometry for the sweep's report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean
from typing import Any

from xalign_dist.reporting import formats
from xalign_dist.reporting.charts import HEIGHT, WIDTH, Axis, nice_ticks
from xalign_dist.reporting.view_matrix import Heat

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 24, 10, 26  # a label of six figures fits under the last dot
_DISTINCT, _BINS, _LEVELS, _PAIRED = 6, 4, 10, 4
Row = Mapping[str, Any]
"""A trial of trials.json: ``parameters`` and ``value``."""


@dataclass(frozen=True, slots=True)
class Knob:
    """The scatter of one setting.

    ``dots`` are (x, y, label), ``mean`` the SVG points of the mean over each value or bin,
    ``explained`` the share of the trials' variance that lies between those (eta squared), None for
    fewer than three trials.
    """

    name: str
    explained: float | None
    best: str
    dots: list[tuple[float, float, str]]
    mean: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT


@dataclass(frozen=True, slots=True)
class Bins:
    """The values of a setting in order: each distinct one, or quarters of many."""

    labels: list[str]
    of: list[int]


def knobs(rows: Sequence[Row], names: Sequence[str], mode: str) -> list[Knob]:
    """One plot a setting that took two values or more, the strongest first."""
    found = [_knob(name, rows, mode) for name in names if len(_distinct(rows, name)) > 1]
    return sorted(found, key=lambda k: -1.0 if k.explained is None else -k.explained)


def interactions(rows: Sequence[Row], ordered: Sequence[str]) -> list[Heat]:
    """Mean metric over every two of the strongest settings; empty cells were never tried."""
    return [_heat(rows, a, b) for a, b in combinations(ordered[:_PAIRED], 2)]


def bins(values: Sequence[Any]) -> Bins:
    """Where each value belongs."""
    distinct = sorted(set(values), key=_order)
    numeric = all(_is_number(v) for v in distinct)
    if len(distinct) <= _DISTINCT or not numeric:
        return Bins([_label(v) for v in distinct], [distinct.index(v) for v in values])
    ordered = sorted(values)
    cuts = [ordered[len(ordered) * i // _BINS] for i in range(1, _BINS)]
    edges = [ordered[0], *cuts, ordered[-1]]
    labels = [f"{_label(a)} to {_label(b)}" for a, b in pairwise(edges)]
    return Bins(labels, [sum(v >= cut for cut in cuts) for v in values])


def _knob(name: str, rows: Sequence[Row], mode: str) -> Knob:
    values = [row["parameters"][name] for row in rows]
    scores = [float(row["value"]) for row in rows]
    placed = bins(values)
    across, x_ticks = _across(values)
    y_axis = Axis.around(scores)
    pad = 0.06 * (y_axis.high - y_axis.low)
    low, span = y_axis.low - pad, y_axis.high - y_axis.low + 2 * pad

    def up(score: float) -> float:
        return HEIGHT - _BOTTOM - (score - low) / span * (HEIGHT - _TOP - _BOTTOM)

    groups = [[i for i, at in enumerate(placed.of) if at == g] for g in range(len(placed.labels))]
    means = [(fmean(across[i] for i in g), fmean(scores[i] for i in g)) for g in groups if g]
    sign = 1.0 if mode == "max" else -1.0
    tried = [i for i, g in enumerate(groups) if g]
    best = max(tried, key=lambda i: sign * fmean(scores[j] for j in groups[i]))
    return Knob(
        name,
        _explained(scores, groups),
        placed.labels[best],
        [
            (round(x, 1), round(up(s), 1), f"{_label(v)}: {formats.decimal(s, 4)}")
            for x, s, v in zip(across, scores, values, strict=True)
        ],
        " ".join(f"{x:.1f},{up(s):.1f}" for x, s in sorted(means)),
        x_ticks,
        [(up(t), formats.tick(t)) for t in nice_ticks(y_axis.low, y_axis.high, 4)],
    )


def _across(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """x of each value, and ticks: names evenly, numbers to scale, in the logarithm over a factor of ten."""
    wide = WIDTH - _LEFT - 2 * _RIGHT
    distinct = sorted(set(values), key=_order)
    if len(distinct) <= _DISTINCT or not all(_is_number(v) for v in distinct):
        step = wide / max(1, len(distinct) - 1)
        at = {repr(v): _LEFT + _RIGHT + i * step for i, v in enumerate(distinct)}
        return [at[repr(v)] for v in values], [(at[repr(v)], _label(v)) for v in distinct]
    scale = math.log if distinct[0] > 0 and distinct[-1] / distinct[0] > 10 else float
    low, high = scale(distinct[0]), scale(distinct[-1])

    def place(value: float) -> float:
        return _LEFT + _RIGHT + (scale(value) - low) / (high - low) * wide

    ticks = [distinct[0], distinct[len(distinct) // 2], distinct[-1]]
    return [place(v) for v in values], [(place(t), _label(t)) for t in ticks]


def _explained(scores: Sequence[float], groups: Sequence[Sequence[int]]) -> float | None:
    middle = fmean(scores)
    total = sum((s - middle) ** 2 for s in scores)
    if len(scores) < 3 or total == 0:
        return None
    between = sum(len(g) * (fmean(scores[i] for i in g) - middle) ** 2 for g in groups if g)
    return between / total


def _heat(rows: Sequence[Row], down: str, across: str) -> Heat:
    first, second = (bins([row["parameters"][name] for row in rows]) for name in (down, across))
    cells: dict[tuple[int, int], list[float]] = {}
    for row, a, b in zip(rows, first.of, second.of, strict=True):
        cells.setdefault((a, b), []).append(float(row["value"]))
    means = {key: fmean(values) for key, values in cells.items()}
    low, span = min(means.values()), (max(means.values()) - min(means.values())) or 1.0

    def cell(a: int, b: int) -> tuple[str, int]:
        mean = means.get((a, b))
        return ("", 0) if mean is None else (formats.decimal(mean), round(_LEVELS * (mean - low) / span))

    table = [(label, [cell(a, b) for b in range(len(second.labels))]) for a, label in enumerate(first.labels)]
    return Heat(f"{down} down, {across} across", second.labels, table)


def _distinct(rows: Sequence[Row], name: str) -> set[Any]:
    return {row["parameters"].get(name) for row in rows}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _order(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if _is_number(value) else (1, 0.0, str(value))


def _label(value: Any) -> str:
    """Short, and as one would type it."""
    return f"{value:.3g}" if _is_number(value) else str(value)
