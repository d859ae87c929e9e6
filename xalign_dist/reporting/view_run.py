"""What the report shows of the run itself: learning curves, cost, examples, how to repeat it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xalign_dist.reporting import formats
from xalign_dist.reporting.charts import LineChart, line_chart
from xalign_dist.reporting.names import (
    MODEL_ORDER,
    against_label,
    language_name,
    model_label,
    model_order,
    model_style,
)
from xalign_dist.reporting.run_data import RunData

# Field of the telemetry, title, what it tells, whether the axis starts at 0.
_MAIN_CURVES = (
    ("loss", "Loss", "Different objectives: compare shapes, not heights.", False),
    ("tau", "Temperature \u03c4", "Softer early, sharper late, moved by the gap.", False),
    ("gap", "Similarity gap", "Positives minus their hardest negatives.", False),
    ("accuracy", "In-batch accuracy A", "Share of pairs that find each other in the batch.", False),
    ("lambda_R", "Structure weight \u03bb_R", "Fades as A rises.", True),
    ("lambda_A", "Adversary weight \u03bb_A", "Ramps up, then decays.", True),
)
_MORE_CURVES = (
    ("effective_negatives", "Effective negatives", "How many negatives carry a row's gradient.", True),
    ("effective_pairs", "Effective pairs", "Share of the batch that the confidences leave.", True),
    ("masked_share", "Masked negatives", "Probable translations among them.", True),
    ("uniformity", "Uniformity", "Less is more evenly spread.", False),
    ("lr", "Learning rate", "", True),
    ("pairs_per_second", "Pairs per second", "", True),
    ("padding_share", "Padding share", "Of the tokens encoded.", True),
    ("data_wait_share", "Data wait share", "Time the step waits for its batch.", True),
)
_EXAMPLES_EACH = 5


@dataclass(frozen=True, slots=True)
class Curves:
    """Small multiples over training steps, and the arms in their colours."""

    arms: list[tuple[str, str]]
    main: list[LineChart]
    more: list[LineChart]


def curves(telemetry: Mapping[str, Sequence[Mapping[str, Any]]]) -> Curves:
    """A chart per figure that moves in any arm: what is switched off stands still."""
    arms = sorted(telemetry, key=model_order)
    others = [a for a in arms if a not in MODEL_ORDER]
    styles = {a: model_style(a, others) for a in arms}

    def charts(wanted: Sequence[tuple[str, str, str, bool]]) -> list[LineChart]:
        out = []
        for field, title, note, zero in wanted:
            series = []
            for arm in arms:
                xs, ys = _series(telemetry[arm], field)
                if len(xs) > 1:
                    series.append((model_label(arm), styles[arm], xs, ys))
            if any(len(set(ys)) > 1 for _, _, _, ys in series):
                out.append(line_chart(title, note, series, zero))
        return out

    legend = [(model_label(a), styles[a]) for a in arms]
    return Curves(legend, charts(_MAIN_CURVES), charts(_MORE_CURVES))


def _series(rows: Sequence[Mapping[str, Any]], field: str) -> tuple[list[float], list[float]]:
    points = [
        (float(row["step"]), float(row[field]))
        for row in rows
        if row.get(field) is not None and row.get("step") is not None and math.isfinite(float(row[field]))
    ]
    points.sort()
    return [x for x, _ in points], [y for _, y in points]


@dataclass(frozen=True, slots=True)
class StageRow:
    """A stage's time and what it counted; ``share`` of the longest stage, 0-100."""

    name: str
    seconds: float
    share: float
    counts: str
    finished: str


@dataclass(frozen=True, slots=True)
class Cost:
    """Time by stage, the total, and figures of the whole run."""

    rows: list[StageRow]
    total: float
    figures: list[tuple[str, str]]


def cost(data: RunData) -> Cost:
    """Seconds and counts of each stage in the order in which they finished."""
    stages = sorted(data.stages.items(), key=lambda kv: str(kv[1].get("finished", "")))
    longest = max((float(s.get("seconds") or 0) for _, s in stages), default=0.0) or 1.0
    rows = []
    for name, stage in stages:
        spent = float(stage.get("seconds") or 0)
        counts = _counts(stage.get("counts") or {})
        rows.append(StageRow(name, spent, 100 * spent / longest, counts, str(stage.get("finished", ""))))
    return Cost(rows, sum(r.seconds for r in rows), _figures(data))


def _counts(counts: Mapping[str, Any]) -> str:
    """Numbers with their names; counts within counts after a colon."""
    flat = ", ".join(
        f"{formats.count(v)} {k.replace('_', ' ')}"
        for k, v in counts.items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    )
    nested = [f"{k.replace('_', ' ')}: {_counts(v)}" for k, v in counts.items() if isinstance(v, dict) and v]
    return "; ".join([flat, *nested] if flat else nested)


def _figures(data: RunData) -> list[tuple[str, str]]:
    out = []
    for arm, rows in sorted(data.telemetry.items(), key=lambda kv: model_order(kv[0])):
        _, speed = _series(rows, "pairs_per_second")
        if speed:
            middle = sorted(speed)[len(speed) // 2]
            out.append((f"{model_label(arm)}: training speed (median)", f"{formats.count(middle)} pairs/s"))
    for field, what in (("cpu_hours", "CPU core hours held"), ("gpu_hours", "GPU hours held")):
        if hours := sum(float(s.get(field) or 0) for s in data.stages.values()):
            out.append((what, f"{hours:.2f}"))
    return out


@dataclass(frozen=True, slots=True)
class ExampleGroup:
    """Queries of one language; texts as they are in the corpus (the template escapes them)."""

    key: str
    name: str
    gained: list[Mapping[str, Any]]
    lost: list[Mapping[str, Any]]
    totals: tuple[int, int]


def example_groups(rows: Sequence[Mapping[str, Any]]) -> list[ExampleGroup]:
    """The first examples of each language and kind, in the order of the file."""
    out = []
    for lang in sorted({str(r["lang"]) for r in rows}, key=language_name):
        kinds = {k: [r for r in rows if r["lang"] == lang and r["kind"] == k] for k in ("gained", "lost")}
        gained, lost = kinds["gained"], kinds["lost"]
        totals = (len(gained), len(lost))
        group = ExampleGroup(
            lang, language_name(lang), gained[:_EXAMPLES_EACH], lost[:_EXAMPLES_EACH], totals
        )
        out.append(group)
    return out


def example_baseline(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the answers before are by: the model that the file names, else the baseline."""
    names = {str(r["baseline"]) for r in rows if r.get("baseline")}
    return " and ".join(against_label(n).removeprefix("vs. ") for n in sorted(names)) or "the baseline"


def stage_notes(data: RunData) -> list[str]:
    """What stages say they left out."""
    found = [(s.get("counts") or {}).get("notes") for s in data.stages.values()]
    return [str(note) for notes in found if isinstance(notes, list) for note in notes]


def reproduce(data: RunData) -> list[str]:
    """Shell lines that repeat the run."""
    versions = dict(data.manifest.get("versions") or {})
    version = versions.get("xalign_dist")
    run = shlex.quote(data.run.rstrip("/"))
    install = f"pip install 'xalign_dist=={version}'" if version else "pip install xalign_dist"
    return [
        install,
        f"xalign run {run}/config.yaml --out {run}-again",
        f"xalign report {run}-again --against {run}",
    ]
