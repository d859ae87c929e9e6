"""The end of a run on the console: results, noise audit, mined pairs, and where things are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xalign_dist.evaluation.metrics import ALL, GROUP_NAMES, base_task
from xalign_dist.records import Metric
from xalign_dist.reporting import formats
from xalign_dist.reporting.files import join
from xalign_dist.reporting.names import (
    INITIAL,
    group_label,
    is_share,
    language_name,
    model_label,
    task_label,
)
from xalign_dist.reporting.results import Results, final_round

# A retrieval language gets a row of its own; other tasks show their averages.
_PER_LANGUAGE = "retrieval"


def summary_tables(metrics: Sequence[Metric], groups: Mapping[str, str] | None = None) -> list[Table]:
    """Tables of what a run found; those without data are left out.

    Args:
        metrics: rows of metrics.json.
        groups: language -> ``high`` or ``low``, to mark the languages. None: not marked.
    """
    results = Results(metrics, groups or {})
    tables = [results_table(results), audit_table(metrics), mining_table(metrics)]
    return [t for t in tables if t is not None]


def results_table(results: Results) -> Table | None:
    """Models as columns; averages of every task first, then retrieval by language."""
    if not results.rows:
        return None
    table = _table("Results on held-out text (percent; gaps as cosine)")
    table.add_column("", no_wrap=True)
    for model in results.models:
        table.add_column(model_label(model), justify="right")
    baseline = INITIAL if INITIAL in results.models else None
    if baseline and results.ours not in (None, baseline):
        table.add_column("gain", justify="right", style="bold")
    for task, metric in results.headline_rows():
        for key in (ALL, *(g for g in GROUP_NAMES if g != ALL)):
            _result_row(
                table, results, baseline, task, metric, key, f"{task_label(task)}, {group_label(key)}"
            )
        table.add_section()
    for task in results.tasks(_PER_LANGUAGE)[:1]:
        for lang in results.languages(task, "accuracy"):
            mark = {"high": " (high)", "low": " (low)"}.get(results.group(lang) or "", "")
            _result_row(table, results, baseline, task, "accuracy", lang, f"  {language_name(lang)}{mark}")
    return table


def _result_row(
    table: Table, results: Results, baseline: str | None, task: str, metric: str, key: str, label: str
) -> None:
    points = [results.point(m, task, metric, key) for m in results.models]
    if not any(points):
        return
    share = is_share(task)
    cells = [formats.value(p.value if p else None, share) for p in points]
    if baseline and results.ours not in (None, baseline):
        cells.append(formats.signed(results.gain(results.ours, baseline, task, metric, key), share))
    table.add_row(Text(label), *cells)


def audit_table(metrics: Sequence[Metric]) -> Table | None:
    """Estimated against true noise of the first round, where the truth is known."""
    rows = [m for m in metrics if base_task(m.task) == "audit"]
    if not rows:
        return None
    first = min(m.round for m in rows)
    table = _table("Noise audit of the parallel text (percent)")
    for name in ("", "estimated", "95 % interval", "true", "clean kept", "noise left"):
        table.add_column(name, justify="left" if not name else "right")
    found = {(m.tgt_lang, m.metric): m for m in rows if m.round == first}
    for lang in sorted({lang for lang, _ in found}, key=language_name):
        cell = {
            name: found.get((lang, name))
            for name in ("noise_estimated", "noise_true", "kept_clean", "noise_left")
        }
        estimate = cell["noise_estimated"]
        table.add_row(
            Text(language_name(lang)),
            _percent(estimate),
            formats.interval(estimate.low, estimate.high) if estimate else formats.NONE,
            *(_percent(cell[name]) for name in ("noise_true", "kept_clean", "noise_left")),
        )
    return table


def mining_table(metrics: Sequence[Metric]) -> Table | None:
    """Mined pairs by round: all languages together, and each language in the last round."""
    rows = [m for m in metrics if base_task(m.task) == "mining" and m.metric != "f1"]
    if not rows:
        return None
    table = _table("Pairs mined from monolingual text (percent)")
    for name in ("round", "", "precision", "predicted", "recall"):
        table.add_column(name, justify="left" if not name else "right")
    found = {(m.round, m.tgt_lang, m.metric): m for m in rows}
    rounds = sorted({m.round for m in rows})
    shown = [(r, ALL) for r in rounds]
    last = final_round(rows)
    shown += [(rounds[-1], x) for x in sorted({m.tgt_lang for m in last} - {ALL}, key=language_name)]
    for number, (round_, lang) in enumerate(shown):
        if number == len(rounds):
            table.add_section()
        cells = (
            _percent(found.get((round_, lang, n))) for n in ("precision", "predicted_precision", "recall")
        )
        table.add_row(str(round_), Text(language_name(lang)), *cells)
    return table


def _percent(metric: Metric | None) -> str:
    return formats.percent(metric.value if metric else None)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", header_style="", pad_edge=False)


def print_where(run: str, console: Console) -> None:
    """Where model, pairs and report of ``run`` lie, and three lines of Python that use the model."""
    places = {
        "model": "model",
        "mined and scored pairs": "pairs",
        "report": "report.html",
        "figures": "metrics.json",
    }
    console.print()
    for name, place in places.items():
        console.print(Text(f"{name + ':':24}{join(run, place)}"), soft_wrap=True)
    console.print()
    for line in (
        "from sentence_transformers import SentenceTransformer",
        f'model = SentenceTransformer("{join(run, "model")}")',
        'print(model.similarity(model.encode("The door is open."), model.encode("Tá an doras oscailte.")))',
    ):
        console.print(Text("    " + line, style="cyan"), soft_wrap=True)
