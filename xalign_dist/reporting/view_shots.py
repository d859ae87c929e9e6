"""The few-shot curve: accuracy over how many examples of the target language a classifier has seen."""

from __future__ import annotations

import re

from xalign_dist.evaluation.metrics import ALL, base_task
from xalign_dist.reporting.charts import LineChart, line_chart
from xalign_dist.reporting.names import MODEL_ORDER, model_label, model_style, task_label
from xalign_dist.reporting.results import Results

_SHOTS = re.compile(r"accuracy@(\d+)")


def shot_curves(results: Results) -> list[LineChart]:
    """A chart per classification task that has shots; 0 examples is the zero-shot accuracy."""
    others = [m for m in results.models if m not in MODEL_ORDER]
    charts = []
    for task in dict.fromkeys(task for task, _ in results.rows if base_task(task) == "classification"):
        named = [(name, _SHOTS.fullmatch(name)) for t, name in results.rows if t == task]
        shots = {0: "accuracy"} | {int(m[1]): name for name, m in named if m}
        series = []
        for model in results.models:
            points = [(n, results.point(model, task, shots[n], ALL)) for n in sorted(shots)]
            xs = [float(n) for n, p in points if p is not None]
            ys = [100 * p.value for _, p in points if p is not None]
            if len(xs) > 1:
                series.append((model_label(model), model_style(model, others), xs, ys))
        if series:
            note = "Accuracy in % over examples per class of the target language, mean over languages."
            charts.append(line_chart(task_label(task, None), note, series))
    return charts
