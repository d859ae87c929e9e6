"""The end of a run on the console: results, noise audit, mined pairs, and where things are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from xalign_dist.evaluation.metrics import ALL, GROUP_NAMES, base_task
from xalign_dist.records import Metric
from xalign_dist.reporting import formats
from xalign_dist.reporting.differences import Difference
from xalign_dist.reporting.files import join
from xalign_dist.reporting.names import (
    ADAPTIVE,
    HEADLINE,
    INFONCE,
    INITIAL,
    group_label,
    is_share,
    language_name,
    task_label,
)
from xalign_dist.reporting.results import Results, common_verdict, find_differences
from xalign_dist.reporting.run_data import language_groups, load_run
from xalign_dist.reporting.view_corpus import Audits, audit_rows, mining_rows
from xalign_dist.reporting.view_results import gain_baselines

# A column of the console has no room for more.
_SHORT = {INITIAL: "before", INFONCE: "InfoNCE", ADAPTIVE: "adaptive"}
_STYLE = {"better": "green", "worse": "red"}
# The language table of the console: one task, the rest as averages.
_BY_LANGUAGE = "retrieval"


def run_tables(run: str) -> list[Table]:
    """:func:`summary_tables` of a run directory, with all that it knows.

    Raises:
        DataError: no run directory, or a damaged file in it.
    """
    data = load_run(run)
    return summary_tables(data.metrics, language_groups(data), data.audits, data.differences)


def summary_tables(
    metrics: Sequence[Metric],
    groups: Mapping[str, str] | None = None,
    audits: Audits | None = None,
    differences: Sequence[Difference] = (),
    models: Sequence[str] = (),
) -> list[Table]:
    """What a run found, readable at 80 columns; a table without data is left out.

    Args:
        metrics: rows of metrics.json.
        groups: language -> ``high`` or ``low`` (``run_data.language_groups``). None: not grouped.
        audits: per round, entries of audit.json: numbers of pairs, and the audit without a truth.
        differences: paired tests, which colour the gains. Empty: not coloured.
        models: side by side in this order, the first against the others. Empty: the arms of a run.
    """
    results = Results(metrics, groups or {})
    found = [
        results_table(results, differences, models),
        audit_table(audits or {}, metrics),
        mining_table(audits or {}, metrics),
    ]
    return [t for t in found if t is not None]


def results_table(
    results: Results, differences: Sequence[Difference] = (), models: Sequence[str] = ()
) -> Table | None:
    """Before, fixed InfoNCE, adaptive: retrieval by language and group, then averages of each task.

    With ``models`` those in their order, and the gains of the first over the others. A run without an
    adaptive arm shows every model and no gains.
    """
    if not results.rows:
        return None
    shown, ours, baselines = _columns(results, models)
    three = ": before training, fixed-temperature InfoNCE, adaptive" if ours == ADAPTIVE else ""
    table = _table(
        f"Results on held-out text{three}",
        "in %, gains in points; similarity gap as cosine"
        + ("; green, red: p < 0.05 (Holm)" if differences else ""),
    )
    table.add_column("")
    for model in shown:
        table.add_column(Text(_SHORT.get(model, model)), justify="right", overflow="fold")
    for baseline in baselines:
        table.add_column(Text(f"vs. {_SHORT.get(baseline, baseline)}"), justify="right", overflow="fold")
    writer = _Writer(table, results, shown, ours, baselines, differences)
    for task in results.tasks(_BY_LANGUAGE)[:1]:
        writer.languages(task)
    rest = [row for row in results.headline_rows() if row[0] not in results.tasks(_BY_LANGUAGE)[:1]]
    for task, metric in rest:
        writer.averages(task, metric)
    return table


def _columns(results: Results, models: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Models shown, the one that is compared, and those it is compared with."""
    if models:
        return list(models), models[0], list(models[1:])
    arms = [m for m in (INITIAL, INFONCE, ADAPTIVE) if m in results.models]
    if ADAPTIVE in arms:
        return arms, ADAPTIVE, gain_baselines(results)
    return results.models, "", []


class _Writer:
    """Rows of the results table."""

    def __init__(
        self,
        table: Table,
        results: Results,
        models: Sequence[str],
        ours: str,
        baselines: Sequence[str],
        differences: Sequence[Difference],
    ) -> None:
        self.table, self.results, self.models = table, results, models
        self.ours, self.baselines, self.differences = ours, baselines, differences

    def languages(self, task: str) -> None:
        """Every language under its group, and each group's mean."""
        metric = HEADLINE[base_task(task)]
        keys = self.results.languages(task, metric)
        self.table.add_row(Text(task_label(task, metric), style="bold"))
        for group in ("high", "low", None):
            members = [k for k in keys if self.results.group(k) == group]
            for key in members:
                self._row(f"  {language_name(key)}", task, metric, key)
            if group is not None:
                self._row(f"  {group_label(group)}, mean", task, metric, group, "bold")
            if members:
                self.table.add_section()
        self._row("  All languages, mean", task, metric, ALL, "bold")
        self.table.add_section()

    def averages(self, task: str, metric: str) -> None:
        """All, high- and low-resource languages of one task."""
        for key in GROUP_NAMES:
            label = task_label(task, metric) if key == ALL else f"  {group_label(key).lower()}"
            self._row(label, task, metric, key, "bold" if key == ALL else "")
        self.table.add_section()

    def _row(self, label: str, task: str, metric: str, key: str, style: str = "") -> None:
        points = [self.results.point(m, task, metric, key) for m in self.models]
        if not any(points):
            return
        share = is_share(task)
        cells = [Text(formats.value(p.value if p else None, share)) for p in points]
        for baseline in self.baselines:
            gain = self.results.gain(self.ours, baseline, task, metric, key)
            verdict = common_verdict(find_differences(self.differences, task, metric, key, baseline))
            cells.append(Text(formats.signed(gain, share), style=_STYLE.get(verdict, "")))
        self.table.add_row(Text(label), *cells, style=style)


def audit_table(audits: Audits, metrics: Sequence[Metric]) -> Table | None:
    """Noise of the parallel text: estimated, and true where it is known."""
    rows = [r for r in audit_rows(audits, metrics) if not r.part]
    if not rows:
        return None
    known = any(r.true is not None for r in rows)
    table = _table("Noise audit of the parallel text (%)", "* unstable estimate")
    table.add_column("")
    heads = ["pairs", "estimated", "95 % interval", *(["true", "clean kept", "noise left"] if known else [])]
    for name in heads:
        table.add_column(name, justify="right")
    for r in rows:
        cells = [formats.count(r.pairs), formats.percent(r.estimated), formats.interval(r.low, r.high)]
        if known:
            cells += [formats.percent(v) for v in (r.true, r.kept_clean, r.noise_left)]
        table.add_row(Text(r.name + ("" if r.stable else " *")), *cells)
    if all(r.stable for r in rows):
        table.caption = None
    return table


def mining_table(audits: Audits, metrics: Sequence[Metric]) -> Table | None:
    """Pairs mined in each round: how many, predicted and true precision, recall."""
    rows = mining_rows(audits, metrics)
    if not rows:
        return None
    table = _table("Pairs mined from monolingual text (%)")
    for name in ("", "round", "pairs", "predicted precision", "precision", "recall"):
        table.add_column(name, justify="right" if name else "left")
    last = rows[0].key
    for r in rows:
        if r.key in GROUP_NAMES and last not in GROUP_NAMES:
            table.add_section()
        name = r.name if r.key != last or r is rows[0] else ""
        shares = [formats.percent(v) for v in (r.predicted, r.precision, r.recall)]
        style = "bold" if r.key in GROUP_NAMES else ""
        table.add_row(Text(name), str(r.round), formats.count(r.kept), *shares, style=style)
        last = r.key
    return table


def _table(title: str, caption: str | None = None) -> Table:
    return Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        box=HORIZONTALS,
        header_style="",
        pad_edge=False,
    )


def print_where(run: str, console: Console | None = None) -> None:
    """Where model, pairs and report of ``run`` lie, and three lines of Python that use the model.

    Lines are never broken, so that they can be copied.
    """
    console = console or Console(highlight=False)
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
        f"model = SentenceTransformer({json.dumps(join(run, 'model'), ensure_ascii=False)})",
        'print(model.similarity(model.encode("The door is open."), model.encode("Tá an doras oscailte.")))',
    ):
        console.print(Text("    " + line, style="cyan"), soft_wrap=True)
