"""What a sweep found, in sentences: how much better than the default, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuning.finals import BEST, DEFAULT, Contender
from tuning.guard import BUDGET
from tuning.space import Space, override
from tuning.summary import Trial
from tuning.sweep import Limits
from xalign_dist.reporting import formats
from xalign_dist.reporting.differences import Difference
from xalign_dist.reporting.names import task_label


def statement(
    space: Space,
    ranked: Sequence[Trial],
    contenders: Sequence[Contender],
    comparisons: Sequence[Mapping[str, Any]],
    ended_by: str,
    limits: Limits,
) -> list[str]:
    """Sentences, the most important first."""
    said = []
    head = headline(comparisons)
    if head is not None:
        said.append(_tested(head, len(contenders[0].values)))
    if contenders:
        said.append(_over_seeds(space, contenders))
    elif ranked and ranked[0].value is not None:
        said.append(
            f"Best of {len(ranked)} trials on the development pairs: {space.metric} {ranked[0].value:.4f}, "
            "one seed, not compared with the default."
        )
    said += _changed(ranked, contenders)
    if ended_by == BUDGET:
        left = space.trials() - sum(t.ended for t in ranked)
        said.append(
            f"The budget of {space.budget} ended the sweep; {left} of {space.trials()} trials did not end. "
            "The same command with a larger --budget goes on."
        )
    return said


def _changed(ranked: Sequence[Trial], contenders: Sequence[Contender]) -> list[str]:
    """Of a population: that a run of best.yaml is not what the winner of the search did."""
    names = [c.name for c in contenders[:1]] or [t.name for t in ranked[:1]]
    found = next((t for t in ranked if t.name in names), None)
    if found is None or not found.schedule:
        return []
    steps = [
        f"from round {row['from']} "
        + ", ".join(override(key, value) for key, value in row["parameters"].items())
        for row in found.schedule
    ]
    again = (
        "the finalists were run from the start under these alone" if contenders else "not yet run that way"
    )
    return [
        f"The best trial's settings changed on the way: {'; '.join(steps)}. best.yaml holds the last as "
        f"constants, {again}."
    ]


def headline(comparisons: Sequence[Mapping[str, Any]]) -> Difference | None:
    """The row that stands for the test: over all languages, of the first task."""
    rows = [Difference.from_json(row, "test.json") for row in comparisons]
    over_all = [r for r in rows if r.lang == "all"]
    return next(iter(over_all or rows), None)


def _tested(row: Difference, seeds: int) -> str:
    low, high = row.gain_interval or (None, None)
    unit = " points" if row.share else ""
    sure = "" if row.significant else "; chance may explain it"
    ours, default = (formats.value(v, row.share) for v in (row.ours_value, row.baseline_value))
    return (
        f"On the test set the best settings gain {formats.signed(row.gain, row.share)}{unit} of "
        f"{task_label(row.task, row.metric)} over the default "
        f"(95 % interval {formats.interval(low, high, row.share, True)}, "
        f"corrected p {formats.p_value(row.corrected)}, {seeds} seed{'s' if seeds > 1 else ''}): "
        f"{ours} against {default}{sure}."
    )


def _over_seeds(space: Space, contenders: Sequence[Contender]) -> str:
    first = contenders[0]
    default = next((c for c in contenders if c.name == DEFAULT), None)
    many = f"over {len(first.values)} seeds" if len(first.values) > 1 else "with one seed"
    where = f"On the development pairs, {many},"
    if first.name == DEFAULT:
        return f"{where} no finalist beat the default ({space.metric} {first.mean:.4f})."
    against = f" against {_spread(default)} for the default" if default is not None else ""
    return f"{where} the {BEST} settings reach {space.metric} {_spread(first)}{against}."


def _spread(contender: Contender) -> str:
    around = contender.deviation
    return f"{contender.mean:.4f}" + ("" if around is None else f" ± {around:.4f}")
