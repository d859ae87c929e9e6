"""Axes, charts and number formats."""

from __future__ import annotations

import pytest

from xalign_dist.reporting import formats
from xalign_dist.reporting.charts import Axis, histogram, line_chart, nice_ticks, thin
from xalign_dist.reporting.view_run import curves


def test_ticks_and_axes():
    assert nice_ticks(0, 1, 4) == [0, 0.5, 1.0]
    assert nice_ticks(0.031, 0.072, 4) == pytest.approx([0.04, 0.06])
    assert nice_ticks(2, 2) == [2]
    axis = Axis.around([0.2, None, 0.6], [0.0])
    assert (axis.at(0.0), axis.at(0.3), axis.at(9.0)) == ("2.00%", "50.00%", "98.00%")
    flat = Axis.around([3.0, 3.0])
    assert flat.at(3.0) == "50.00%"


def test_thinning_keeps_the_mean():
    xs, ys = thin([float(i) for i in range(1000)], [float(i % 2) for i in range(1000)], most=100)
    assert len(xs) == 100
    assert set(ys) == {0.5}
    assert thin([1.0], [2.0]) == ([1.0], [2.0])


def test_a_flat_line_is_drawn():
    chart = line_chart("tau", "", [("a", "m-a", [1, 2], [0.05, 0.05])])
    assert chart.lines[0].last == "0.05"
    assert len(chart.lines[0].points.split()) == 2


def test_the_null_is_drawn_with_the_area_of_the_noise():
    chart = histogram("x", [0.0, 1.0, 2.0], [0, 10], [4, 0], 0.5, 1.0)
    assert chart.observed == "M10.0 166V166.0H180.0V10.0H350.0V166Z"
    assert chart.null == "M10.0 166V88.0H180.0V166.0H350.0V166Z"
    assert chart.threshold == 180.0


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formats.signed(0.194), "+19.4"),
        (formats.signed(-0.0001), "0.0"),
        (formats.signed(-0.054, share=False), "−0.054"),
        (formats.percent(None), "–"),
        (formats.decimal(-0.0001), "0.000"),
        (formats.interval(0.1, None), "–"),
        (formats.interval(-0.1, 0.2, sign=True), "−10.0 to +20.0"),
        (formats.p_value(0.0004), "<0.001"),
        (formats.p_value(0.05), "0.050"),
        (formats.count(12345), "12,345"),
        (formats.count(41.23), "41.2"),
        (formats.seconds(59.9), "59.9 s"),
        (formats.seconds(59.96), "1 min 00 s"),
        (formats.seconds(3725), "1 h 02 min"),
        (formats.tick(0.0002), "2e−4"),
        (formats.tick(-2.5), "−2.5"),
    ],
)
def test_formats(shown, expected):
    assert shown == expected


def test_a_figure_that_stands_still_in_every_arm_has_no_curve() -> None:
    def rows(tau_moves: bool) -> list[dict[str, float]]:
        return [{"step": n, "loss": 1 / n, "tau": 0.05 + n * tau_moves, "lambda_A": 0.0} for n in (1, 2, 3)]

    still = curves({"adaptive": rows(False), "infonce": rows(False)})
    moved = curves({"adaptive": rows(True), "infonce": rows(False)})
    assert [chart.title for chart in still.main] == ["Loss"]
    assert [chart.title for chart in moved.main] == ["Loss", "Temperature τ"]
