"""An evaluation on disk, whole: what was measured of a model is not measured again to compare it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.corpora.tables import write_table
from xalign_dist.evaluation.metrics import read_metrics, write_metrics
from xalign_dist.evaluation.run import EvaluationResult
from xalign_dist.evaluation.scores import ItemScores

METRICS_FILE, SUMS_FILE = "metrics.json", "sums.parquet"
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("model", "task", "metric", "lang", "reduce")]
    + [("clusters", pa.list_(pa.int64())), ("sums", pa.list_(pa.float64()))]
)


def save_result(result: EvaluationResult, folder: Path) -> None:
    """Write ``result`` to ``folder``: metrics.json and sums.parquet, a row for each of its items' keys.

    Raises:
        OutputError: not writable.
    """
    columns: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}
    for key, items in result.items.items():
        row = (*key, items.reduce, items.clusters_N.tolist(), items.sums_NK.ravel().tolist())
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    groups = {task: {g: sorted(langs) for g, langs in of.items()} for task, of in result.groups.items()}
    about = {"groups": json.dumps(groups), "notes": json.dumps(result.notes)}
    write_table(pa.table(columns, schema=_SCHEMA.with_metadata(about)), str(folder / SUMS_FILE))
    write_metrics(result.metrics, str(folder / METRICS_FILE))


def read_result(folder: Path) -> EvaluationResult:
    """What :func:`save_result` wrote there, to the last bit."""
    table = pq.read_table(folder / SUMS_FILE)
    about = table.schema.metadata
    groups = json.loads(about[b"groups"])
    items = {
        (row["model"], row["task"], row["metric"], row["lang"]): ItemScores(
            np.array(row["sums"], np.float64).reshape(len(row["clusters"]), -1),
            np.array(row["clusters"], np.int64),
            row["reduce"],
        )
        for row in table.to_pylist()
    }
    return EvaluationResult(
        read_metrics(str(folder / METRICS_FILE)),
        items,
        {task: {g: frozenset(langs) for g, langs in of.items()} for task, of in groups.items()},
        json.loads(about[b"notes"]),
    )
