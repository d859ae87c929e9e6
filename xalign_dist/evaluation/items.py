"""Scores of single items as a table, so that two runs can be tested item by item."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from xalign_dist.evaluation.run import EvaluationResult

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("model", "task", "metric", "lang", "item")] + [("score", pa.float64())]
)


def items_table(result: EvaluationResult) -> pa.Table:
    """Rows {model, task, metric, lang, item, score}; ``lang`` is ``src-tgt``.

    An item is named by its cluster, which comes from its text: the same item has the same name in
    another run, in another direction and in another language of the same message. A second one of
    the same name is ``name#2``. Metrics that are no mean of items (F1 of counts) and items without
    a score are left out.
    """
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for key, items in sorted(result.items.items(), key=lambda kv: kv[0]):
        if items.reduce != "mean":
            continue
        seen: Counter[int] = Counter()
        for cluster, score in zip(items.clusters_N.tolist(), items.values.tolist(), strict=True):
            seen[cluster] += 1
            if np.isfinite(score):
                name = f"{cluster:x}" if seen[cluster] == 1 else f"{cluster:x}#{seen[cluster]}"
                for column, value in zip(columns.values(), (*key, name, score), strict=True):
                    column.append(value)
    return pa.table(columns, schema=SCHEMA)
