"""report.html: one offline file that says whether a run was worth it, and shows why."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import xalign_dist
from xalign_dist.reporting import ablation, formats
from xalign_dist.reporting.charts import Axis
from xalign_dist.reporting.files import join, write_text
from xalign_dist.reporting.names import INFONCE, INITIAL, model_label, model_style
from xalign_dist.reporting.results import Results
from xalign_dist.reporting.run_data import RunData, language_groups, load_run
from xalign_dist.reporting.templating import environment
from xalign_dist.reporting.verdict import judge
from xalign_dist.reporting.view_corpus import (
    AuditRow,
    audit_histograms,
    audit_rows,
    borderline_pairs,
    ledger_rows,
    mining_rows,
)
from xalign_dist.reporting.view_matrix import heat_maps
from xalign_dist.reporting.view_results import (
    forests,
    gain_baselines,
    language_tables,
    summary_rows,
    tested_rows,
)
from xalign_dist.reporting.view_run import (
    cost,
    curves,
    example_baseline,
    example_groups,
    reproduce,
    stage_notes,
)
from xalign_dist.reporting.view_shots import shot_curves
from xalign_dist.reporting.view_space import space

REPORT_FILE = "report.html"

_SECTIONS = [
    ("results", "Results"),
    ("languages", "Languages"),
    ("differences", "Differences"),
    ("ablation", "Ablation"),
    ("audit", "Noise audit"),
    ("mining", "Mined pairs"),
    ("training", "Learning curves"),
    ("space", "Space"),
    ("examples", "Examples"),
    ("cost", "Cost"),
    ("config", "Config"),
]


def write_report(run: str) -> str:
    """Write RUN/report.html and give back its path.

    A section whose input is missing says which file that is and which command makes it. The file
    is complete in itself: no request leaves it, a content security policy forbids them, and only
    the script with the stated hash may run. Text from corpora is escaped everywhere.

    Args:
        run: run directory, local or any fsspec URI.

    Raises:
        DataError: no run directory, or a damaged file in it.
        OutputError: the report cannot be written.
    """
    path = join(run, REPORT_FILE)
    write_text(path, render_report(load_run(run)))
    return path


def render_report(data: RunData) -> str:
    """The report as HTML."""
    results = Results(data.metrics, language_groups(data))
    context = {
        **_frame(data, results),
        **_results_context(data, results),
        **_corpus_context(data),
        "curves": curves(data.telemetry),
        "space": space(data.projection, results.ours),
        "heat": heat_maps(data.metrics, results),
        "examples": example_groups(data.examples),
        "example_baseline": example_baseline(data.examples),
        "notes": stage_notes(data),
        "cost": cost(data),
        "reproduce": reproduce(data),
    }
    return environment().get_template("report.html").render(context)


def _frame(data: RunData, results: Results) -> dict[str, Any]:
    folder = files("xalign_dist.reporting") / "templates"
    css = (folder / "report.css").read_text("utf-8")
    js = (folder / "report.js").read_text("utf-8")
    others = [m for m in results.models if model_style(m) == "m-x0"]
    return {
        "data": data,
        "version": xalign_dist.__version__,
        "css": css,
        "js": js,
        "style_hash": _csp_hash(css),
        "script_hash": _csp_hash(js),
        "facts": _facts(data, results),
        "sections": [s for s in _SECTIONS if s[0] != "ablation" or data.ablation],
        "verdict": judge(results, data.differences),
        "commands": _commands(data.run),
        "style": lambda model: model_style(model, others),
    }


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _facts(data: RunData, results: Results) -> list[str]:
    """The line under the title."""
    out = []
    model = (data.config.get("encoder") or {}).get("model")
    if model:
        out.append(f"encoder {model}")
    groups = list(results.groups.values())
    if groups:
        out.append(f"{groups.count('high')} high-resource and {groups.count('low')} low-resource languages")
    finished = [str(s["finished"]) for s in data.stages.values() if s.get("finished")]
    if finished:
        out.append("finished " + max(finished).replace("T", " ").replace("Z", " UTC"))
    if "seed" in data.config:
        out.append(f"seed {data.config['seed']}")
    return out


def _commands(run: str) -> dict[str, str]:
    """Which command makes what is missing."""
    config, out = f"{run}/config.yaml", f"--out {run}"
    return {
        "run": f"xalign run {config} {out}",
        "train": f"xalign run {config} {out}",
        "evaluate": f"xalign run {config} {out}",
        "score": f"xalign score --pairs IN.parquet --model M --out {run}/pairs/round=1",
        "mine": f"xalign mine --source A.parquet --target B.parquet --model M --out {run}/pairs/round=1",
    }


def _results_context(data: RunData, results: Results) -> dict[str, Any]:
    return {
        "models": results.models,
        "labels": {m: model_label(m) for m in (*results.models, INITIAL, INFONCE)},
        "ours_label": model_label(results.ours) if results.ours else "Our model",
        "baselines": gain_baselines(results),
        "summary": summary_rows(results, data.differences),
        "tables": language_tables(results, data.differences),
        "shots": shot_curves(results),
        "forest_plots": forests(data.differences),
        "tested": tested_rows(data.differences),
        **ablation.sections(data.ablation),
    }


def _corpus_context(data: RunData) -> dict[str, Any]:
    audit = audit_rows(data.audits, data.metrics)
    audit_axis = Axis.around([v for r in audit for v in (r.low, r.estimated, r.high, r.true)], [0.0, 0.1])
    mining = mining_rows(data.audits, data.metrics)
    shares = [v for r in mining for v in (r.predicted, r.precision, r.recall)]
    mining_axis = Axis.around(shares, [0.5, 1.0])
    return {
        "audit": audit,
        "audit_known": _known(audit),
        "audit_axis": audit_axis,
        "audit_ticks": _ticks(audit_axis),
        "histograms": audit_histograms(data.audits),
        "borderline": borderline_pairs(data.audits),
        "mining": mining,
        "mining_axis": mining_axis,
        "mining_ticks": _ticks(mining_axis),
        "ledger": ledger_rows(data.ledgers),
    }


def _known(rows: Sequence[AuditRow]) -> bool:
    return any(r.true is not None for r in rows)


def _ticks(axis: Axis) -> list[tuple[str, str]]:
    return [(axis.at(v), formats.percent(v, 0)) for v in axis.ticks(4)]
