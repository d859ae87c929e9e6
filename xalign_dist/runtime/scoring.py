"""Scoring over Ray: texts stream through a pool of encoders into buckets, parts through Ray Data."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.util.annotations import RayDeprecationWarning

from xalign_dist.config import EncoderConfig, RuntimeConfig
from xalign_dist.encoder import Embedder, load_encoder
from xalign_dist.errors import XalignError
from xalign_dist.runtime.faults import for_workers, pack_error, unpack_error, users_errors
from xalign_dist.runtime.lost_time import Begun, lost_pieces
from xalign_dist.runtime.resources import Resources
from xalign_dist.runtime.vectors import EmbedJob
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
            numbers.map_batches(run, batch_size=1, num_cpus=1).iter_batches(
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
        return _Kept({number: _do.remote(ref, number) for number in numbers})


class _Kept:
    def __init__(self, refs: dict[int, Any]) -> None:
        self._refs = refs

    def __call__(self, number: int) -> Any:
        with users_errors():
            return _get(self._refs[number])


@functools.lru_cache(maxsize=KEPT_HERE)
def _get(ref: Any) -> Any:
    return ray.get(ref)


# By name: else, inside a trial of Tune, it would be held to the trial's own reservation, a tenth of a CPU.
@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
def _do(work: Callable[[int], Any], number: int) -> Any:
    return work(number)


class _BucketEmbedder:
    """One actor of the pool. The encoder is loaded at the first bucket, so that an error says why."""

    def __init__(
        self,
        settings: dict[str, Any],
        staged: Staged,
        store: VectorBuckets,
        threads: int | None,
        begun: Begun,
    ) -> None:
        self.settings, self.staged, self.store, self.threads = settings, staged, store, threads
        self.begun = begun

    @functools.cached_property
    def embed(self) -> Embedder:
        """Loaded once."""
        if self.threads:
            torch.set_num_threads(self.threads)
        config = EncoderConfig.model_validate(self.settings["encoder"])
        return Embedder(load_encoder(self.settings["model"], config), self.settings["batch"])

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows, faults, lost = [], [], []
        for number in batch["item"].tolist():
            lost.append(self.begun.begin(number))
            try:
                texts = dict.fromkeys(t for some in self.staged.texts(number) for t in some)
                rows.append(self.store.write(number, list(texts), self.embed))
                self.begun.end(number)
                faults.append("")
            except XalignError as err:
                # Ray Data passes on only the text of an error in an actor, so it travels as data.
                rows.append(0)
                faults.append(pack_error(err))
        return {"rows": np.array(rows), "fault": np.array(faults), "lost": np.array(lost)}


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
    resources = resources.now()
    actors = min(resources.embed_actors(runtime), len(missing))
    threads = resources.threads(actors)
    settings = asdict(job) | {"model": for_workers(job.model), "encoder": job.encoder.model_dump()}
    begun = Begun(store.folder)
    with warnings.catch_warnings():
        # Of max_restarts: Ray Data has no named parameter for it yet (2.60).
        warnings.simplefilter("ignore", RayDeprecationWarning)
        done = ray.data.from_items(missing, override_num_blocks=len(missing)).map_batches(
            _BucketEmbedder,
            fn_constructor_args=(settings, staged, store, threads, begun),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            # Half a CPU each: the pool must leave room for Data's own tasks on a 2-CPU machine.
            num_cpus=0 if resources.gpus else 0.5,
            num_gpus=resources.embed_gpus(runtime),
            max_restarts=-1 if resources.nodes > 1 else 0,
        )
    with contextlib.closing(begun), users_errors():
        for batch in done.iter_batches(batch_size=None):
            lost_pieces(batch["lost"])
            for fault in filter(None, batch["fault"]):
                raise unpack_error(str(fault))
            advance(int(np.sum(batch["rows"])))
    return store
