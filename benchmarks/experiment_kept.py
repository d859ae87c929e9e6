"""Scores of single items, one small file a seed: seeds measured at different times make one table.

A file has a row for each item of the tasks of the claims, and beside task, metric, language pair and
cluster a column for each arm. Its metadata say when, where and from which commit it was made.
"""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Mapping
from pathlib import Path

import common
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from experiment_claims import TASKS, Arm

from xalign_dist.corpora.tables import write_table
from xalign_dist.evaluation.scores import ItemScores

KEYS = ("task", "metric", "lang", "item")
CLUSTER = "cluster"


def keep(file: Path, folders: Mapping[str, Path]) -> None:
    """Write ``file`` from the items.parquet of each arm's run directory; ``folders``: arm -> directory.

    Raises:
        ValueError: an arm has other items than the first.
    """
    columns: dict[str, pa.Array] = {}
    for arm, folder in folders.items():
        table = _items(folder)
        if not columns:
            columns = {name: table[name] for name in KEYS}
        elif any(not table[name].equals(columns[name]) for name in KEYS):
            raise ValueError(f"{folder}: other items than {next(iter(folders.values()))}")
        columns[arm] = table["score"].cast(pa.float32())
    clusters = [int(name.split("#")[0], 16) for name in columns.pop("item").to_pylist()]
    whole = pa.table({**columns, CLUSTER: pa.array(clusters, pa.int64())})
    write_table(whole.replace_schema_metadata(_made()), str(file))


def kept(file: Path) -> dict[str, Arm]:
    """The arms of a file that :func:`keep` wrote."""
    table = pq.read_table(file)
    keys = list(zip(*(table[n].to_pylist() for n in KEYS[:3]), strict=True))
    clusters = table[CLUSTER].to_numpy()
    places: dict[tuple[str, str, str], list[int]] = {}
    for n, key in enumerate(keys):
        places.setdefault(key, []).append(n)
    return {
        arm: Arm({k: ItemScores.mean(scores[rows], clusters[rows]) for k, rows in places.items()})
        for arm in table.column_names
        if arm not in (*KEYS, CLUSTER)
        for scores in [table[arm].to_numpy().astype(np.float64)]
    }


def made(file: Path) -> dict[str, str]:
    """When, where and from which commit ``file`` was made."""
    metadata = pq.read_schema(file).metadata or {}
    return {k.decode(): v.decode() for k, v in metadata.items() if k.decode() in _FIELDS}


_FIELDS = ("date", "machine", "commit")


def _made() -> dict[str, str]:
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    machine = f"{common.machine()['cpu']}, {common.machine()['cores']} cores"
    return {"date": date, "machine": machine, "commit": commit.stdout.strip() or "unknown"}


def _items(folder: Path) -> pa.Table:
    """Of the tasks of the claims, in an order of their own."""
    wanted = {row for rows in TASKS.values() for row in rows}
    table = pq.read_table(folder / "items.parquet")
    names = zip(table["task"].to_pylist(), table["metric"].to_pylist(), strict=True)
    table = table.filter(pa.array([name in wanted for name in names], pa.bool_()))
    return table.take(pc.sort_indices(table, [(name, "ascending") for name in KEYS]))
