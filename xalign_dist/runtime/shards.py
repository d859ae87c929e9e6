"""k-nearest-neighbour search over index shards, one actor each, rebuilt from disk when one dies.

The pairs found may not depend on the number of shards: each shard returns global row
numbers, and the merge orders by (score, row), so ties break the same way everywhere.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray

from xalign_dist.errors import DataError
from xalign_dist.mining import IndexPlan, build_index, merge_topk, plan_index
from xalign_dist.records import Float32, Int64

QUERY_BLOCK = 8192


@ray.remote(num_cpus=0, max_restarts=3, max_task_retries=3)
class ShardActor:
    """Holds one shard: rows ``[start, stop)`` of the vectors in ``path`` (a .npy file)."""

    def __init__(self, path: str, start: int, stop: int, kind: str) -> None:
        vectors_ND = np.load(path, mmap_mode="r", allow_pickle=False)
        self.start = start
        self.index = build_index(np.ascontiguousarray(vectors_ND[start:stop], dtype=np.float32), kind)

    def ready(self) -> int:
        """First row of the shard; answers once the index is built."""
        return self.start

    def search(self, query_ND: Float32, k: int) -> tuple[Float32, Int64]:
        """Scores and global rows ``[N, k]``; -1 where the shard has fewer than k rows."""
        scores, ids = self.index.search(query_ND, k)
        return scores, np.where(ids >= 0, ids + self.start, -1)


class ShardedIndex:
    """All shards of one side, searched together."""

    def __init__(self, actors: list[Any], rows: int, plan: IndexPlan) -> None:
        self.actors, self.rows, self.plan = actors, rows, plan

    def search(self, query_ND: Float32, k: int) -> tuple[Float32, Int64]:
        """Top ``k`` over all shards: scores float32 and global rows int64, both ``[N, k]``.

        ``k`` above the number of rows gives the missing places row -1.
        """
        blocks = []
        for start in range(0, len(query_ND), QUERY_BLOCK):
            query = ray.put(np.ascontiguousarray(query_ND[start : start + QUERY_BLOCK], dtype=np.float32))
            parts = ray.get([a.search.remote(query, k) for a in self.actors])
            blocks.append(merge_topk(parts, k))
        return np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])


@contextlib.contextmanager
def sharded_index(
    base_ND: Float32,
    folder: str,
    shards: int,
    *,
    kind: str = "auto",
    recall: float = 1.0,
    memory_bytes: int | None = None,
) -> Iterator[ShardedIndex]:
    """Write ``base_ND`` to ``folder``, start one actor a shard, and end them afterwards.

    Raises:
        DataError: no vectors.
        ResourceError: the plan does not fit into ``memory_bytes`` (None: this machine's memory).
    """
    rows, dim = base_ND.shape
    if rows == 0:
        raise DataError("an empty side cannot be searched", "check the corpus after cleaning")
    plan = plan_index(rows, dim, memory_bytes=memory_bytes, recall=recall, kind=kind)
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"vectors-{uuid.uuid4().hex[:8]}.npy"
    np.save(path, np.ascontiguousarray(base_ND, dtype=np.float32), allow_pickle=False)
    bounds = np.linspace(0, rows, min(shards, rows) + 1).astype(int)
    actors = [
        ShardActor.remote(str(path.resolve()), int(a), int(b), plan.kind)
        for a, b in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    try:
        ray.get([a.ready.remote() for a in actors])
        yield ShardedIndex(actors, rows, plan)
    finally:
        for actor in actors:
            ray.kill(actor)
        path.unlink(missing_ok=True)
