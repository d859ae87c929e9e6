"""A batch in plain lists and arrays, and the stream that reads batches ahead of the step."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from xalign_dist.batches.plan import BatchPlan, rank_rows
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.records import Float32, Int64


@dataclass(frozen=True, slots=True)
class Batch:
    """B pairs of one rank at one step; texts as token ids, languages as ids of the training set.

    ``ref_src_BD`` and ``ref_tgt_BD`` are None when the set holds no reference vectors;
    ``step`` is global, ``epoch`` is the one in which the step's first pair lies. ``prepared`` is what the
    stream's ``prepare`` made of the batch, ahead of the step.
    """

    rows_B: Int64
    src_tokens: list[list[int]]
    tgt_tokens: list[list[int]]
    src_lang_B: Int64
    tgt_lang_B: Int64
    weight_B: Float32
    src_key_B: Int64
    tgt_key_B: Int64
    ref_src_BD: Float32 | None
    ref_tgt_BD: Float32 | None
    step: int
    epoch: int
    prepared: object = None


def make_batch(ts: TrainingSet, rows: Int64, step: int, epoch: int) -> Batch:
    """Read ``rows`` [B] of ``ts``."""
    reference = ts.reference(rows)
    ref_src_BD, ref_tgt_BD = reference if reference is not None else (None, None)
    return Batch(
        rows_B=rows,
        src_tokens=ts.src_tokens(rows),
        tgt_tokens=ts.tgt_tokens(rows),
        src_lang_B=ts.src_lang_N[rows],
        tgt_lang_B=ts.tgt_lang_N[rows],
        weight_B=ts.weight_N[rows],
        src_key_B=ts.src_key_N[rows],
        tgt_key_B=ts.tgt_key_N[rows],
        ref_src_BD=ref_src_BD,
        ref_tgt_BD=ref_tgt_BD,
        step=step,
        epoch=epoch,
    )


def read_step(plan: BatchPlan, ts: TrainingSet, step: int, rank: int, world_size: int) -> Batch:
    """The share that ``rank`` of ``world_size`` ranks reads of the batch of ``step``."""
    rows_B = plan.batch(step)
    tokens_B = ts.src_length_N[rows_B] + ts.tgt_length_N[rows_B]
    return make_batch(ts, rank_rows(rows_B, rank, world_size, tokens_B), step, plan.position(step)[0])


class BatchStream:
    """This rank's batches of the steps ``start_step <= step < stop_step``, read ahead by a thread.

    Iterate it (once), best inside ``with``, so that the thread ends whatever happens. A fault in the
    thread is raised at the step it belongs to.

    Attributes:
        wait_seconds: time the consumer waited for data so far.
        busy_seconds: time the consumer spent between asking for batches so far.
    """

    def __init__(
        self,
        ts: TrainingSet,
        plan: BatchPlan,
        rank: int,
        world_size: int,
        start_step: int,
        stop_step: int,
        prefetch: int = 2,
        prepare: Callable[[Batch], object] = lambda batch: None,
    ) -> None:
        """``prefetch`` batches (at least 1) lie ready, ``prepare`` called by the thread; see the class."""
        self.wait_seconds = 0.0
        self.busy_seconds = 0.0
        self._ts, self._plan = ts, plan
        self._rank, self._world_size = rank, world_size
        self._prepare = prepare
        self._steps = range(start_step, stop_step)
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(max(1, prefetch))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="xalign-batches", daemon=True)

    @property
    def wait_share(self) -> float:
        """Share of the time since the first batch was asked for that went into waiting for data."""
        total = self.wait_seconds + self.busy_seconds
        return self.wait_seconds / total if total else 0.0

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in order; the thread ends with the loop, also on ``break``."""
        self._thread.start()
        try:
            for _ in self._steps:
                asked = time.perf_counter()
                item = self._queue.get()
                given = time.perf_counter()
                self.wait_seconds += given - asked
                if isinstance(item, BaseException):
                    raise item
                yield item
                self.busy_seconds += time.perf_counter() - given
        finally:
            self.close()

    def close(self) -> None:
        """End the thread and wait for it. Safe to call twice, and before the first batch."""
        self._stop.set()
        while self._thread.is_alive():
            self._drain()
            self._thread.join(timeout=0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drain(self) -> None:
        # The thread may be blocked on a full queue; room lets it see the stop event.
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return

    def _fill(self) -> None:
        try:
            for step in self._steps:
                if self._stop.is_set():
                    return
                self._queue.put(self._read(step))
        except BaseException as err:  # handed to the consumer, which raises it
            self._queue.put(err)

    def _read(self, step: int) -> Batch:
        batch = read_step(self._plan, self._ts, step, self._rank, self._world_size)
        return replace(batch, prepared=self._prepare(batch))
