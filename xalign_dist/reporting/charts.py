"""Geometry of the plots: scales, ticks, and the points of lines. The markup is in the templates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from xalign_dist.reporting import formats

WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
_MAX_POINTS = 240


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale drawn in percent of whatever width the page gives it.

    ``low`` and ``high`` lie a little inside the ends, so that marks there are not cut.
    """

    low: float
    high: float

    @staticmethod
    def around(values: Iterable[float | None], include: Sequence[float] = ()) -> Axis:
        """The scale of all ``values`` and ``include``, never empty."""
        found = [v for v in (*values, *include) if v is not None and math.isfinite(v)]
        low, high = (min(found), max(found)) if found else (0.0, 1.0)
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        return Axis(low, high)

    def at(self, value: float) -> str:
        """Where ``value`` lies, e.g. ``"37.50%"``; beyond the ends it is moved to the end."""
        share = (value - self.low) / (self.high - self.low)
        return f"{2 + 96 * min(1.0, max(0.0, share)):.2f}%"

    def ticks(self, count: int = 4) -> list[float]:
        """Round values inside the scale, about ``count``."""
        return nice_ticks(self.low, self.high, count)


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within [low, high]."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its name, colour class, SVG points, and its last value."""

    name: str
    style: str
    points: str
    last: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """A small line chart of ``WIDTH`` x ``HEIGHT`` units.

    ``x_ticks`` and ``y_ticks`` are (position, label); ``domain`` is (x0, x1, y0, y1) in data units,
    from which the page's script reads values back under the pointer.
    """

    title: str
    note: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    domain: tuple[float, float, float, float]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    top: int = _TOP
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


Series = tuple[str, str, Sequence[float], Sequence[float]]


def line_chart(title: str, note: str, series: Sequence[Series], zero: bool = False) -> LineChart:
    """Lines over a common x axis.

    Args:
        title: what is drawn.
        note: one line of explanation.
        series: (name, colour class, xs, ys), ``xs`` rising. Long ones are thinned by averaging.
        zero: let the y axis start at 0.
    """
    xs = [x for _, _, x_N, _ in series for x in x_N]
    ys = [y for _, _, _, y_N in series for y in y_N]
    x_axis, y_axis = Axis.around(xs), Axis.around(ys, [0.0] if zero else [])
    pad = 0.04 * (y_axis.high - y_axis.low)
    y_axis = Axis(y_axis.low if zero and y_axis.low == 0 else y_axis.low - pad, y_axis.high + pad)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_axis.low) / (x_axis.high - x_axis.low)
        up = (y - y_axis.low) / (y_axis.high - y_axis.low)
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
        )

    lines = []
    for name, style, x_N, y_N in series:
        placed = [place(x, y) for x, y in zip(*thin(x_N, y_N), strict=True)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        lines.append(Line(name, style, points, formats.tick(y_N[-1])))
    return LineChart(
        title,
        note,
        lines,
        [(place(x, y_axis.low)[0], formats.tick(x)) for x in x_axis.ticks(5)],
        [(place(x_axis.low, y)[1], formats.tick(y)) for y in y_axis.ticks(4)],
        (x_axis.low, x_axis.high, y_axis.low, y_axis.high),
    )


def thin(
    x_N: Sequence[float], y_N: Sequence[float], most: int = _MAX_POINTS
) -> tuple[list[float], list[float]]:
    """At most ``most`` points: means of equal runs of neighbours."""
    size = math.ceil(len(x_N) / most)
    if size <= 1:
        return list(x_N), list(y_N)
    starts = range(0, len(x_N), size)
    return (
        [sum(x_N[i : i + size]) / len(x_N[i : i + size]) for i in starts],
        [sum(y_N[i : i + size]) / len(y_N[i : i + size]) for i in starts],
    )


@dataclass(frozen=True, slots=True)
class Histogram:
    """Two outlines over the same bins, for one language pair; ``threshold`` None: not on the axis."""

    title: str
    observed: str
    null: str
    threshold: float | None
    x_ticks: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    base: int = HEIGHT - _BOTTOM


def histogram(
    title: str,
    edges: Sequence[float],
    observed: Sequence[float],
    null: Sequence[float],
    null_share: float,
    threshold: float | None,
) -> Histogram:
    """Observed scores and the null's share of them, as densities over ``edges`` (one more than bins).

    Args:
        title: the language pair.
        edges: bin edges, rising.
        observed: counts of the real pairs.
        null: counts of the decoys.
        null_share: estimated noise rate: the null is drawn with this area.
        threshold: a cut on the same axis.
    """
    widths = [b - a for a, b in pairwise(edges)]
    shapes = []
    for counts, share in ((observed, 1.0), (null, null_share)):
        total = sum(counts) or 1.0
        shapes.append([share * c / total / w for c, w in zip(counts, widths, strict=True)])
    top = max((v for shape in shapes for v in shape), default=0.0) or 1.0
    base = HEIGHT - _BOTTOM
    scale = (WIDTH - 2 * _RIGHT) / (edges[-1] - edges[0])

    def across(x: float) -> float:
        return _RIGHT + (x - edges[0]) * scale

    def outline(shape: Sequence[float]) -> str:
        steps = [f"M{across(edges[0]):.1f} {base}"]
        for i, v in enumerate(shape):
            steps.append(f"V{base - v / top * (base - _TOP):.1f}H{across(edges[i + 1]):.1f}")
        return "".join([*steps, f"V{base}Z"])

    return Histogram(
        title,
        outline(shapes[0]),
        outline(shapes[1]),
        across(threshold) if threshold is not None and edges[0] <= threshold <= edges[-1] else None,
        [(across(x), formats.tick(x)) for x in nice_ticks(edges[0], edges[-1], 5)],
    )
