"""What each part of the method is worth: tables of ablation arms against the full method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.box import HORIZONTALS
from rich.table import Table
from rich.text import Text

from xalign_dist.evaluation.metrics import GROUP_NAMES
from xalign_dist.reporting import formats
from xalign_dist.reporting.charts import Axis
from xalign_dist.reporting.differences import Difference
from xalign_dist.reporting.names import language_name, model_label, task_label
from xalign_dist.reporting.results import difference_key
from xalign_dist.reporting.templating import environment
from xalign_dist.reporting.view_results import Forest, ForestRow, forest_row


def tables(rows: Sequence[Difference]) -> list[Forest]:
    """One forest per metric and group of languages, a row per arm; all on one scale.

    ``rows``: the full method (``ours``) minus an arm (``baseline``): RUN/ablation.json.
    """
    if not rows:
        return []
    ends = [v for d in rows for v in (d.gain, *(d.gain_interval or ()))]
    axis = Axis.around(ends, [0.0])
    pad = 0.05 * (axis.high - axis.low)
    axis = Axis(axis.low - pad, axis.high + pad)
    ticks = [(axis.at(v), formats.signed(v).replace(".0", "")) for v in axis.ticks(5)]
    by_row: dict[tuple[str, str, str], list[ForestRow]] = {}
    for d in rows:
        arm = replace(forest_row(d, axis), label=model_label(d.baseline), group="")
        by_row.setdefault((d.task, d.metric, difference_key(d)), []).append(arm)
    return [
        Forest(f"{task_label(task, metric)}, {language_name(key)}", axis.at(0.0), ticks, arms)
        for (task, metric, key), arms in by_row.items()
    ]


def sections(rows: Sequence[Difference]) -> dict[str, list[Forest]]:
    """``ablation``: averages over languages, ``ablation_pairs``: single language pairs."""
    averages = [d for d in rows if d.lang in GROUP_NAMES]
    return {
        "ablation": tables(averages),
        "ablation_pairs": tables([d for d in rows if d.lang not in GROUP_NAMES]),
    }


def ablation_html(rows: Sequence[Difference]) -> str:
    """The ablation section of the report as an HTML fragment, without its styles."""
    return environment().get_template("ablation.html").render(**sections(rows))


def ablation_table(rows: Sequence[Difference]) -> Table:
    """A rich table: arms down, difference to the full method with interval and corrected p.

    A part that an arm lacks helps where the full method is better without chance explaining it (green).
    """
    table = Table(
        title="Full method minus each arm",
        caption="green: the full method is better; red: worse; corrected p < 0.05",
        box=HORIZONTALS,
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    for name in ("Metric", "Arm"):
        table.add_column(name, overflow="fold")
    for name in ("Gain", "95 % interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for d in sorted(rows, key=lambda r: (r.task, r.metric, r.lang)):
        label = f"{task_label(d.task, d.metric)}, {language_name(difference_key(d))}"
        if last is not None and label != last:
            table.add_section()
        low, high = d.gain_interval or (None, None)
        style = {"better": "green", "worse": "red"}.get(d.verdict, "")
        table.add_row(
            Text(label if label != last else ""),
            Text(model_label(d.baseline)),
            Text(formats.signed(d.gain, d.share), style=style),
            formats.interval(low, high, d.share, sign=True),
            formats.p_value(d.corrected),
        )
        last = label
    return table
