"""Scoring over Ray: texts stream through a pool of encoders into buckets, parts through Ray Data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray

from xalign_dist.config import RuntimeConfig
from xalign_dist.encoder import Embedder
from xalign_dist.runtime.faults import users_errors
from xalign_dist.runtime.lost_time import Begun
from xalign_dist.runtime.piece_pool import PieceActor, run_pieces
from xalign_dist.runtime.resources import Resources
from xalign_dist.runtime.vectors import BLOCK_TEXTS, EmbedJob
from xalign_dist.scoring.buckets import VectorBuckets
from xalign_dist.scoring.stage import Staged

T = TypeVar("T")
MOST_TASKS = 4096
KEPT_HERE = 8


class RayPasses:
    """Passes over parts as Ray Data streams; what is kept lies in Ray's object store."""

    def parts(self, work: Callable[[int], pa.Table], count: int) -> Iterator[pa.Table]:
        """Rows in the order of the parts; Ray Data holds back what is not asked for yet."""
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        ref = ray.put(work)

        def run(batch: dict[str, np.ndarray]) -> Iterator[pa.Table]:
            for number in batch["item"].tolist():
                yield _get(ref)(number)

        numbers = ray.data.from_items(list(range(count)), override_num_blocks=min(count, MOST_TASKS))
        tables = iter(
            numbers.map_batches(run, batch_size=1, num_cpus=_task_cpus()).iter_batches(
                batch_size=None, batch_format="pyarrow"
            )
        )
        while True:
            with users_errors():
                table = next(tables, None)
            if table is None:
                return
            yield table

    def keep(self, work: Callable[[int], T], numbers: Sequence[int]) -> Callable[[int], T]:
        """One task each, at once."""
        ref = ray.put(work)
        task = _do.options(num_cpus=_task_cpus())
        return _Kept({number: task.remote(ref, number) for number in numbers})


class _Kept:
    def __init__(self, refs: dict[int, Any]) -> None:
        self._refs = refs

    def __call__(self, number: int) -> Any:
        with users_errors():
            return _get(self._refs[number])


def _task_cpus() -> float:
    """Half a one on a cluster that has no more than one: a job's driver holds a part of it."""
    return 1.0 if ray.cluster_resources().get("CPU", 0) > 1 else 0.5


@functools.lru_cache(maxsize=KEPT_HERE)
def _get(ref: Any) -> Any:
    return ray.get(ref)


# By name: else, inside a trial of Tune, it would be held to the trial's own reservation, a tenth of a CPU.
@ray.remote(scheduling_strategy="SPREAD")
def _do(work: Callable[[int], Any], number: int) -> Any:
    return work(number)


class _BucketEmbedder(PieceActor):
    """Embeds the buckets of a laid-out corpus."""

    def __init__(
        self,
        job: Mapping[str, Any],
        threads: int | None,
        begun: Begun,
        staged: Staged,
        store: VectorBuckets,
    ) -> None:
        super().__init__(job, threads, begun)
        self.staged, self.store = staged, store

    @functools.cached_property
    def embed(self) -> Embedder:
        """Around the encoder."""
        return Embedder(self.encoder, self.job["batch"])

    def work(self, piece: int, texts: list[str]) -> int:
        """Each distinct text of the bucket once."""
        distinct = dict.fromkeys(t for some in self.staged.texts(piece) for t in some)
        return self.store.write(piece, list(distinct), self.embed)


def embed_buckets(
    staged: Staged,
    folder: Path,
    job: EmbedJob,
    runtime: RuntimeConfig,
    resources: Resources,
    advance: Callable[[int], None],
) -> VectorBuckets:
    """Embed every distinct text of a laid-out corpus once; buckets that are whole are not made again.

    ``advance`` is told of texts newly done, bucket by bucket.
    """
    store = VectorBuckets(folder.absolute(), staged.buckets)
    missing = [b for b in range(staged.buckets) if not store.done(b)]
    if not missing:
        return store
    # Two texts a pair, if none comes twice; what is done is left out.
    texts = 2 * staged.rows * len(missing) // staged.buckets
    pool = resources.now().pool(runtime, max(1, texts // BLOCK_TEXTS))
    pool = replace(pool, actors=min(pool.actors, len(missing)))
    items = [{"piece": number} for number in missing]
    run_pieces(_BucketEmbedder, (staged, store), job.plain(), items, pool, store.folder, advance)
    return store
