"""Every language against every other: the heat map of retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xalign_dist.evaluation.metrics import GROUP_NAMES
from xalign_dist.records import Metric
from xalign_dist.reporting import formats
from xalign_dist.reporting.names import INITIAL, model_label, task_label
from xalign_dist.reporting.results import Results, final_round

_HEAT_LEVELS = 10


@dataclass(frozen=True, slots=True)
class Heat:
    """A square of values: ``cells`` are (text, level 0-10), rows by query language."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[tuple[str, int]]]]


def heat_maps(metrics: Sequence[Metric], results: Results) -> list[Heat]:
    """Language by language, before and after; empty unless three languages are on both sides."""
    for base, metric in (("clir", "mrr@10"), ("retrieval", "accuracy")):
        for task in results.tasks(base):
            cells = {
                (m.model, m.src_lang, m.tgt_lang): m.value
                for m in final_round(metrics)
                if (m.task, m.metric) == (task, metric) and not {m.src_lang, m.tgt_lang} & {*GROUP_NAMES}
            }
            src, tgt = {k[1] for k in cells}, {k[2] for k in cells}
            # Every language against English alone is a star, which the table by language shows.
            if min(len(src), len(tgt)) >= 3 and len({k[1:] for k in cells}) > len(src) + len(tgt):
                shown = [m for m in (INITIAL, results.ours) if m in results.models]
                title = task_label(task, metric)
                return [_heat(f"{title}, {model_label(m)}", m, cells) for m in dict.fromkeys(shown) if m]
    return []


def _heat(title: str, model: str, cells: dict[tuple[str, str, str], float]) -> Heat:
    values = list(cells.values())
    axis_low, span = min(values), (max(values) - min(values)) or 1.0
    columns = sorted({k[2] for k in cells})

    def cell(src: str, tgt: str) -> tuple[str, int]:
        found = cells.get((model, src, tgt))
        if found is None:
            return "", 0
        return formats.percent(found, 0), round(_HEAT_LEVELS * (found - axis_low) / span)

    rows = [(src, [cell(src, tgt) for tgt in columns]) for src in sorted({k[1] for k in cells})]
    return Heat(title, columns, rows)
