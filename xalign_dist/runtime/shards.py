"""k-nearest-neighbour search over index shards held by actors, rebuilt from disk when one dies.

The pairs found may not depend on the number of shards: each shard returns global row
numbers, and the merge orders by (score, row), so ties break the same way everywhere.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import ray

from xalign_dist.errors import DataError, OutputError
from xalign_dist.mining import Neighbours, VectorIndex, build_index, merge_topk, plan_index
from xalign_dist.records import Float32
from xalign_dist.runtime.faults import users_errors

QUERY_BLOCK = 8192


@dataclass(frozen=True)
class Shard:
    """Rows ``[start, stop)`` of the vectors in ``path`` (a .npy file), indexed as ``kind``."""

    path: str
    start: int
    stop: int
    kind: str

    def build(self) -> VectorIndex:
        """Read the rows and index them."""
        vectors_ND = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return build_index(np.ascontiguousarray(vectors_ND[self.start : self.stop]), self.kind)


@ray.remote(num_cpus=0, max_restarts=3, max_task_retries=3)
class ShardActor:
    """Keeps the shard it was last asked for.

    Every call names its shard, so that an actor restarted after a crash builds it again from
    disk by itself.
    """

    def __init__(self) -> None:
        self._shard: Shard | None = None
        self._index: VectorIndex | None = None

    def search(self, shard: Shard, query_ND: Float32, k: int) -> Neighbours:
        """Scores and global rows ``[N, k]``; row -1 where the shard has fewer than k rows."""
        if self._index is None or self._shard != shard:
            self._index, self._shard = shard.build(), shard
        scores, rows = self._index.search(query_ND, k)
        return scores, np.where(rows >= 0, rows + shard.start, -1)


class ShardPool:
    """Actors that search one base after another; see :func:`shard_pool`."""

    def __init__(self, actors: list[Any], folder: Path, kind: str, recall: float) -> None:
        self.actors, self.folder, self.kind, self.recall = actors, folder, kind, recall

    def __call__(self, query_ND: Float32, base_MD: Float32, k: int) -> Neighbours:
        """The ``k`` rows of ``base_MD`` nearest to each query, over all shards.

        Returns:
            Scores float32 and rows int64, ``[N, k]``; row -1 where the base has fewer than k rows.

        Raises:
            DataError: an empty base.
            ResourceError: the index does not fit into memory.
            OutputError: the vectors cannot be written to disk.
        """
        if len(base_MD) == 0:
            raise DataError("an empty side cannot be searched", "check the corpus after cleaning")
        plan = plan_index(len(base_MD), base_MD.shape[1], recall=self.recall, kind=self.kind)
        with self._on_disk(base_MD) as path:
            bounds = np.linspace(0, len(base_MD), min(len(self.actors), len(base_MD)) + 1).astype(int)
            shards = [Shard(path, int(a), int(b), plan.kind) for a, b in pairwise(bounds)]
            blocks = [
                self._search_block(shards, query_ND[at : at + QUERY_BLOCK], k)
                for at in range(0, len(query_ND), QUERY_BLOCK)
            ]
        return np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])

    def _search_block(self, shards: list[Shard], query_BD: Float32, k: int) -> Neighbours:
        query = ray.put(np.ascontiguousarray(query_BD, dtype=np.float32))
        pending = [a.search.remote(s, query, k) for a, s in zip(self.actors, shards, strict=False)]
        with users_errors():
            found = ray.get(pending)
        return merge_topk(found, k)

    @contextlib.contextmanager
    def _on_disk(self, base_MD: Float32) -> Iterator[str]:
        path = self.folder / f"vectors-{uuid.uuid4().hex[:12]}.npy"
        try:
            np.save(path, np.ascontiguousarray(base_MD, dtype=np.float32), allow_pickle=False)
            yield str(path.resolve())
        except OSError as err:
            raise OutputError(f"{path}: cannot be written ({err.strerror})", "free disk space") from err
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def shard_pool(folder: Path, shards: int, kind: str = "auto", recall: float = 1.0) -> Iterator[ShardPool]:
    """``shards`` search actors, ended with the block. ``folder`` must be seen by every node."""
    folder.mkdir(parents=True, exist_ok=True)
    actors = [ShardActor.remote() for _ in range(shards)]  # type: ignore[attr-defined]
    try:
        yield ShardPool(actors, folder, kind, recall)
    finally:
        for actor in actors:
            ray.kill(actor)
