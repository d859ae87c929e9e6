"""Two runs compared: what is significantly better or worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from xalign_dist.evaluation.metrics import ALL, lower_is_better
from xalign_dist.reporting import formats
from xalign_dist.reporting.names import is_share, language_name, task_label
from xalign_dist.reporting.results import Point, Results
from xalign_dist.reporting.run_data import language_groups, load_run


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both runs; ``verdict``: better, worse, or same (the intervals overlap)."""

    task: str
    metric: str
    key: str
    ours: Point
    theirs: Point
    verdict: str


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Every figure that both runs measured."""

    rows: Sequence[Row]

    @property
    def significant_loss(self) -> bool:
        """Whether a figure is worse beyond both intervals."""
        return any(r.verdict == "worse" for r in self.rows)

    def table(self) -> Table:
        """Averages of every figure, and every language that changed for sure."""
        table = Table(title="This run against the other", title_justify="left")
        for name in ("", "this", "other", "difference"):
            table.add_column(name, justify="left" if not name else "right")
        for r in self.rows:
            if r.key not in (ALL, "high", "low") and r.verdict == "same":
                continue
            share = is_share(r.task)
            style = {"better": "green", "worse": "red"}.get(r.verdict, "")
            table.add_row(
                Text(f"{task_label(r.task, r.metric)}, {language_name(r.key)}"),
                formats.value(r.ours.value, share),
                formats.value(r.theirs.value, share),
                Text(formats.signed(r.ours.value - r.theirs.value, share), style=style),
            )
        return table


def compare_runs(run: str, other: str) -> RunComparison:
    """The final model of ``run`` against that of ``other``, by intervals that do not overlap.

    That is stricter than a 5 % test (Schenker & Gentleman 2001), and needs nothing but metrics.json.

    Raises:
        DataError: a run cannot be read.
    """
    ours, theirs = _results(run), _results(other)
    rows = []
    for task, metric in ours.rows:
        for key in (ALL, "high", "low", *ours.languages(task, metric)):
            one = ours.point(ours.ours or "", task, metric, key)
            two = theirs.point(theirs.ours or "", task, metric, key)
            if one is not None and two is not None:
                rows.append(Row(task, metric, key, one, two, _verdict(task, metric, one, two)))
    return RunComparison(rows)


def _results(run: str) -> Results:
    data = load_run(run)
    return Results(data.metrics, language_groups(data))


def _verdict(task: str, metric: str, one: Point, two: Point) -> str:
    if one.low is None or one.high is None or two.low is None or two.high is None:
        return "same"
    above, below = one.low > two.high, one.high < two.low
    if lower_is_better(task, metric):
        above, below = below, above
    return "better" if above else "worse" if below else "same"
