"""k-nearest-neighbour search over index shards held by actors, rebuilt from disk when one dies.

The pairs found may not depend on the number of shards: each shard returns global row
numbers, and the merge orders by (score, row), so ties break the same way everywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import ray

from xalign_dist.errors import DataError, OutputError
from xalign_dist.mining import IndexPlan, Neighbours, VectorIndex, merge_topk, plan_index
from xalign_dist.mining.calibrate import measure_speed
from xalign_dist.mining.index import set_threads
from xalign_dist.mining.knn import block_bounds, recall_of, streamed_knn
from xalign_dist.mining.plan import SHARE_OF_MEMORY, Speed
from xalign_dist.mining.shard import Shard
from xalign_dist.records import Float32
from xalign_dist.runtime.faults import users_errors
from xalign_dist.runtime.lost_time import lost
from xalign_dist.runtime.metrics import observe_shards
from xalign_dist.runtime.session import sliver

RECALL_SAMPLE = 512
SEED = 20
IN_FLIGHT = 2
"""Blocks of queries that the shards hold at once: one is searched while the last one is merged."""

Say = Callable[[str], None]
Answer = tuple[Neighbours, str]
Asked = tuple[float, list[Any]]


# Calls are tried again without end, since a node that is gone refuses them for seconds before the cluster
# knows; a call that kills its actor ends with the restarts.
@ray.remote(num_cpus=0, max_restarts=3, max_task_retries=-1)
class ShardActor:
    """Keeps the shard it was last asked for.

    Every call names its shard, so that an actor restarted after a crash opens it again from
    disk by itself.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._shard: Shard | None = None
        self._index: VectorIndex | None = None
        # Only an actor that was started again has one: by it the pool learns of the loss.
        again = ray.get_runtime_context().was_current_actor_reconstructed
        self._life = uuid.uuid4().hex if again else ""

    def search(self, shard: Shard, query_ND: Float32, k: int, effort: int) -> Answer:
        """Scores and global rows ``[N, k]``, row -1 where the shard has fewer than k; the actor's life."""
        scores, rows = self._open(shard).search(query_ND, k, effort)
        return (scores, np.where(rows >= 0, rows + shard.start, -1)), self._life

    def exact(self, shard: Shard, query_ND: Float32, k: int) -> Answer:
        """As :meth:`search`, by comparing with every vector on disk."""
        scores, rows = streamed_knn(query_ND, shard.vectors(), k)
        return (scores, np.where(rows >= 0, rows + shard.start, -1)), self._life

    def exhausted(self, shard: Shard, effort: int, k: int) -> bool:
        """Whether more effort cannot find more."""
        return self._open(shard).exhausted(effort, k)

    def measure(self, kind: str, dim: int) -> Speed:
        """How fast this actor is."""
        set_threads(self._threads)
        return measure_speed(kind, dim)

    def _open(self, shard: Shard) -> VectorIndex:
        if self._index is None or self._shard != shard:
            self._index = None  # The old one makes room first.
            set_threads(self._threads)
            index = shard.open()
            if ray.get_gpu_ids():
                index.to_gpu()
            self._index, self._shard = index, shard
        return self._index


class ShardPool:
    """Actors that search one base after another; see :func:`shard_pool`."""

    def __init__(self, actors: list[Any], folder: Path, kind: str, recall: float, say: Say) -> None:
        self.actors, self.folder, self.kind, self.recall, self.say = actors, folder, kind, recall, say
        self._speeds: dict[tuple[str, int], Speed] = {}
        self._kept: set[Path] = set()
        self._lives: set[str] = set()

    def __call__(self, query_ND: Float32, base_MD: Float32, k: int) -> Neighbours:
        """The ``k`` rows of ``base_MD`` nearest to each query, over all shards.

        Returns:
            Scores float32 and rows int64, ``[N, k]``; row -1 where the base has fewer than k rows.

        Raises:
            DataError: an empty base, or a shard that cannot be read.
            ResourceError: the index does not fit into memory.
            OutputError: the vectors cannot be written to disk.
        """
        found = [lists for _, lists in self.blocks(query_ND, base_MD, k, block_bounds(len(query_ND)))]
        if not found:
            return np.zeros((0, k), np.float32), np.zeros((0, k), np.int64)
        return np.concatenate([b[0] for b in found]), np.concatenate([b[1] for b in found])

    def plan(self, rows: int, dim: int, queries: int) -> IndexPlan:
        """What searching ``rows`` vectors will take, by a short measurement on one of the actors.

        Raises:
            ResourceError: it does not fit into the memory of the nodes, with the numbers.
        """
        memory = int(ray.cluster_resources().get("memory", 0) * SHARE_OF_MEMORY) or None
        shards = min(len(self.actors), max(rows, 1))
        return plan_index(
            rows, dim, memory, self.recall, self.kind, queries=queries, shards=shards, measure=self._measure
        )

    def _measure(self, kind: str, dim: int) -> Speed:
        if (kind, dim) not in self._speeds:
            with users_errors():
                self._speeds[kind, dim] = ray.get(self.actors[0].measure.remote(kind, dim))
        return self._speeds[kind, dim]

    def blocks(
        self, query_ND: Float32, base_MD: Float32, k: int, bounds: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[tuple[int, int], Neighbours]]:
        """As a call, one block of queries after another: ``(start, stop)`` and the lists of its rows.

        Args:
            query_ND: unit vectors.
            base_MD: unit vectors.
            k: neighbours.
            bounds: the blocks that are wanted.
        """
        if len(base_MD) == 0:
            raise DataError("an empty side cannot be searched", "check the corpus after cleaning")
        kind = self.plan(len(base_MD), base_MD.shape[1], len(query_ND)).kind
        with self._on_disk(base_MD) as path:
            shards = self._shards(path, len(base_MD), kind)
            effort = 0 if kind == "flat" else self._effort(shards, query_ND, k)
            waiting: deque[tuple[tuple[int, int], Asked]] = deque()
            for start, stop in bounds:
                waiting.append(((start, stop), self._ask("search", shards, query_ND[start:stop], k, effort)))
                if len(waiting) >= IN_FLIGHT:
                    yield self._merged(*waiting.popleft(), k)
            while waiting:
                yield self._merged(*waiting.popleft(), k)

    def _shards(self, path: Path, rows: int, kind: str) -> list[Shard]:
        count = min(len(self.actors), rows)
        edges = np.linspace(0, rows, count + 1).astype(int)
        observe_shards(np.diff(edges).tolist())
        saved = [path.with_name(f"{path.stem}-{kind}-{i + 1}of{count}.index") for i in range(count)]
        if kind != "flat":
            self._kept.update(saved)
        return [
            Shard(str(path), int(a), int(b), kind, "" if kind == "flat" else str(file))
            for (a, b), file in zip(pairwise(edges), saved, strict=True)
        ]

    def _ask(self, what: str, shards: list[Shard], query_BD: Float32, k: int, *rest: int) -> Asked:
        query = ray.put(np.ascontiguousarray(query_BD, dtype=np.float32))
        actors = zip(self.actors, shards, strict=False)
        return time.monotonic(), [getattr(a, what).remote(shard, query, k, *rest) for a, shard in actors]

    def _merged(self, block: tuple[int, int], asked: Asked, k: int) -> tuple[tuple[int, int], Neighbours]:
        with users_errors():
            answers = ray.get(asked[1])
        self._note_losses([life for _, life in answers], asked[0])
        return block, merge_topk([lists for lists, _ in answers], k)

    def _note_losses(self, lives: list[str], asked: float) -> None:
        seconds = time.monotonic() - asked
        for number, life in enumerate(lives, 1):
            if life and life not in self._lives:
                self._lives.add(life)
                lost(
                    f"index shard {number} of {len(lives)} was lost and opened again from disk: "
                    f"{seconds:.1f} s until its answer came",
                    self.say,
                    shard=number,
                    seconds=round(seconds, 2),
                )

    def _effort(self, shards: list[Shard], query_ND: Float32, k: int) -> int:
        """The least effort whose recall on a sample of the queries is what was asked for."""
        chosen = np.random.default_rng(SEED).permutation(len(query_ND))[:RECALL_SAMPLE]
        sample = query_ND[np.sort(chosen)]
        _, exact = self._merged((0, len(sample)), self._ask("exact", shards, sample, k), k)
        for effort in itertools.count():
            _, found = self._merged((0, len(sample)), self._ask("search", shards, sample, k, effort), k)
            recall = recall_of(found, exact)
            enough = recall >= self.recall
            if enough or self._all_seen(shards, effort, k):
                break
        self.say(
            f"      {shards[0].kind} index: recall@{k} {recall:.3f} on {len(sample)} queries against exact"
            f" search, {self.recall:g} asked, effort {effort}"
        )
        return effort

    def _all_seen(self, shards: list[Shard], effort: int, k: int) -> bool:
        actors = zip(self.actors, shards, strict=False)
        with users_errors():
            return all(ray.get([a.exhausted.remote(s, effort, k) for a, s in actors]))

    @contextlib.contextmanager
    def _on_disk(self, base_MD: Float32) -> Iterator[Path]:
        """The vectors as a file named by what is in it, so that a restart finds the indices of the same."""
        base = np.ascontiguousarray(base_MD, dtype=np.float32)
        name = hashlib.blake2b(base.data.cast("B"), digest_size=12).hexdigest()
        path = (self.folder / f"vectors-{name}.npy").resolve()
        aside = path.with_suffix(".writing")
        try:
            with aside.open("wb") as out:
                np.save(out, base, allow_pickle=False)
            aside.replace(path)
        except OSError as err:
            size = f"{base.nbytes / 1e6:,.0f} MB of vectors"
            raise OutputError(
                f"{path}: {size} cannot be written ({err.strerror or 'no room'})",
                "free disk space and give the same command again: what is finished stays",
            ) from err
        finally:
            aside.unlink(missing_ok=True)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Delete what earlier, killed or outdated searches left in the folder."""
        for file in self.folder.glob("vectors-*"):
            if file not in self._kept:
                file.unlink(missing_ok=True)


@contextlib.contextmanager
def shard_pool(
    folder: Path,
    shards: int,
    kind: str = "auto",
    recall: float = 1.0,
    *,
    say: Say = lambda line: None,
    threads: int | None = None,
    gpus: float = 0.0,
) -> Iterator[ShardPool]:
    """``shards`` search actors, ended with the block.

    Args:
        folder: seen by every node; vectors of the side being searched lie there, and the shards of
            approximate indices, which later searches of the same vectors open again.
        shards: actors, spread over the nodes.
        kind: as ``mining.index``.
        recall: as ``mining.recall``.
        say: told the recall that an approximate index was measured to have.
        threads: of each actor. None: its share of the cores.
        gpus: share of a GPU for each actor; its indices lie there where they fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cores = int(ray.cluster_resources().get("CPU", 1))
    options = {"num_cpus": sliver(), "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
    actors = [
        ShardActor.options(**options).remote(threads or max(1, cores // shards))  # type: ignore[attr-defined]
        for _ in range(shards)
    ]
    pool = ShardPool(actors, folder.resolve(), kind, recall, say)
    try:
        yield pool
        pool.forget()
    finally:
        for actor in actors:
            ray.kill(actor)
