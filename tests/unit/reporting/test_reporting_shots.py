"""The few-shot curve of a classification task."""

from __future__ import annotations

import re

import pytest

from xalign_dist.records import Metric
from xalign_dist.reporting.names import task_order
from xalign_dist.reporting.report import render_report
from xalign_dist.reporting.results import Results
from xalign_dist.reporting.run_data import RunData
from xalign_dist.reporting.view_shots import shot_curves

VALUES = {"infonce": (0.5, 0.6, 0.7), "adaptive": (0.6, 0.65, 0.9)}
NAMES = ("accuracy", "accuracy@4", "accuracy@16")


def rows(task="classification:sib"):
    return [
        Metric(model, 1, task, name, src, tgt, value, None, None, 100, 0)
        for model, values in VALUES.items()
        for name, value in zip(NAMES, values, strict=True)
        for src, tgt in (("all", "all"), ("eng", "deu"))
    ]


def test_a_line_per_model_from_none_to_most_examples():
    (chart,) = shot_curves(Results(rows(), {}))
    assert chart.title == "Zero-shot classification (sib)"
    assert [(line.name, line.last) for line in chart.lines] == [("Fixed InfoNCE", "70"), ("Adaptive", "90")]
    xs = [float(point.split(",")[0]) for point in chart.lines[0].points.split()]
    # 0, 4 and 16 examples.
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(0.25, abs=0.01)
    ys = [float(point.split(",")[1]) for point in chart.lines[1].points.split()]
    assert ys[0] > ys[1] > ys[2], "upwards on the page"


def test_fewer_examples_come_first():
    named = [f"accuracy@{n}" for n in (16, 4, 100)]
    assert sorted(named, key=lambda m: task_order("classification", m)) == [
        f"accuracy@{n}" for n in (4, 16, 100)
    ]


def test_zero_shot_alone_is_no_curve():
    assert shot_curves(Results([m for m in rows() if m.metric == "accuracy"], {})) == []


def test_the_report_has_the_curve_and_names_its_axis():
    page = render_report(RunData("runs/x", metrics=rows()))
    assert "With some examples of the language" in page
    assert re.search(r'aria-label="Zero-shot classification \(sib\) over examples per class', page)
    assert "With some examples" not in render_report(RunData("runs/x", metrics=rows()[:2]))
