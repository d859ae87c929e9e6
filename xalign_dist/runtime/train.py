"""A training job on Ray Train, with DeepSpeed: workers, restarts, live progress."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import ConfigError, Preempted, StageError, XalignError
from xalign_dist.runtime.demand import Demand, training_demand
from xalign_dist.runtime.lost_time import TrainingTime
from xalign_dist.runtime.metrics import observe_step
from xalign_dist.runtime.notice import ClusterNotice
from xalign_dist.runtime.waiting import wait_for
from xalign_dist.training.engine import TorchEngine
from xalign_dist.training.job import TrainJob, TrainResult
from xalign_dist.training.loop import StepRecord
from xalign_dist.training.notice import Terminated
from xalign_dist.training.run import run_training

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
#: glibc gives a thread that is not the first (Ray Train's) an arena that returns large blocks to the system
#: and fetches them again at every step: a fifth of the step in page faults. These keep them.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
}


@ray.remote(num_cpus=0)
class _Channel:
    """Carries what rank 0 has to say to the driver. Without a CPU, so that it never waits for one."""

    def __init__(self) -> None:
        self._records: list[tuple[str, float, dict[str, Any]]] = []
        self._warnings: list[str] = []
        self._notes: list[str] = []
        self._stop = False
        self._result: TrainResult | None = None
        self._error: XalignError | None = None

    def push(self, attempt: str, record: dict[str, Any]) -> None:
        """One step's figures, by which start of the workers."""
        self._records.append((attempt, time.monotonic(), record))

    def finish(self, result: TrainResult | None, error: XalignError | None) -> None:
        """The end: a result, or a fault of the user's that no restart would mend. The first one counts."""
        if not self.outcome_known():
            self._result, self._error = result, error

    def warn(self, text: str) -> None:
        """A warning of rank 0's."""
        self._warnings.append(text)

    def note(self, text: str) -> None:
        """What rank 0 has to say that is no warning."""
        self._notes.append(text)

    def stop(self) -> None:
        """The driver wants a checkpoint and an end."""
        self._stop = True

    def stop_wanted(self) -> bool:
        """Whether it does."""
        return self._stop

    def drain(self) -> tuple[list[tuple[str, float, dict[str, Any]]], list[str], list[str]]:
        """The records, warnings and notes since the last call."""
        said = self._records, self._warnings, self._notes
        self._records, self._warnings, self._notes = [], [], []
        return said

    def outcome_known(self) -> bool:
        """Whether :meth:`finish` was called."""
        return self._result is not None or self._error is not None

    def outcome(self) -> tuple[TrainResult | None, XalignError | None]:
        """What :meth:`finish` was told."""
        return self._result, self._error


class _ToDriver(logging.Handler):
    """Sends warnings to the driver: a worker's own log lies on another machine, where nobody looks."""

    def __init__(self, channel: Any) -> None:
        super().__init__(logging.WARNING)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        self._channel.warn.remote(self.format(record))


def train(
    job: TrainJob,
    runtime: RuntimeConfig,
    storage_path: str,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    say: Callable[[str], None] = _log.info,
) -> TrainResult:
    """Run ``job`` on the connected cluster; a failed worker group is restarted from the newest checkpoint.

    A node that leaves takes its workers with it: the others go on from the newest checkpoint, as many as
    ``runtime.train_workers`` to ``train_workers_max`` find room for. SIGTERM to this process (its main
    thread) makes the workers write a checkpoint and ends the training.

    Args:
        job: what to train; its paths must be reachable from every node.
        runtime: workers, GPUs, restarts. ``train_workers=0`` trains in this process, without Ray.
        storage_path: where Ray Train keeps its own books.
        on_step: called in this process for every step, about twice a second, from another thread.
        say: is told the estimated memory, and what a lost worker or node cost, from that thread.

    Raises:
        Preempted: SIGTERM came; the same command continues.
        ResourceError: the cluster can never give the workers.
        XalignError: what :func:`run_training` raises, as it was raised in the worker.
        StageError: the worker group failed more than ``runtime.max_failures`` times.
    """
    if runtime.train_workers == 0:
        return _train_here(job, on_step, say)
    # On this node, which lives as long as the command does; another one may be taken away.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    channel = _Channel.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
    demand = training_demand(runtime, ray.cluster_resources())
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "channel": channel},
        scaling_config=scaling(runtime, demand),
        torch_config=TorchConfig(),
        run_config=RunConfig(
            # A name used before would silently resume that run.
            name=f"train-{uuid.uuid4().hex[:12]}",
            storage_path=storage_path,
            failure_config=FailureConfig(max_failures=runtime.max_failures),
            worker_runtime_env={"env_vars": KEEP_MEMORY},
        ),
    )
    failure: TrainingFailedError | None = None
    with Terminated() as terminated, _relay(channel, on_step, say, terminated.event):
        try:
            # Ray Train waits as well, but without a word.
            wait_for(demand, say, terminated.event)
            trainer.fit()
        except TrainingFailedError as err:
            failure = err
    result, error = ray.get(channel.outcome.remote())
    ray.kill(channel)
    if error is not None:
        raise error
    if failure is not None or result is None:
        raise StageError(
            f"training failed on the cluster: {_reason(failure)}",
            "look into the Ray logs of the workers; the same command continues from the last checkpoint",
        ) from failure
    return result


def scaling(runtime: RuntimeConfig, demand: Demand) -> ScalingConfig:
    """Ray Train's words for ``demand`` (see :func:`~xalign_dist.runtime.demand.training_demand`).

    A worker computes on more cores than it reserves, see :func:`_threads`.
    """
    low, high = demand.count, max(demand.count, runtime.train_workers_max or demand.count)
    return ScalingConfig(
        num_workers=(low, high) if high > low else low,
        use_gpu="GPU" in demand.resources,
        resources_per_worker=dict(demand.resources),
        label_selector=dict(demand.labels) or None,
    )


def _worker(settings: dict[str, Any]) -> None:
    """Runs in every Ray Train worker."""
    if ray.get(settings["channel"].outcome_known.remote()):
        # A restart after a fault of the user's, which only a failure could end on every rank.
        return
    from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

    job: TrainJob = settings["job"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    attempt = uuid.uuid4().hex
    torch.set_num_threads(_threads(context.get_local_world_size()))
    if rank == 0:
        logging.getLogger("xalign_dist").addHandler(_ToDriver(settings["channel"]))

    def report(record: StepRecord) -> None:
        if rank == 0:
            settings["channel"].push.remote(attempt, record.to_json())
        # A barrier: every rank, equally often, and seldom.
        if record.step % job.training.checkpoint_every == 0 or record.step == job.stop_step:
            ray.train.report({"step": record.step, "loss": record.loss})

    def say(text: str) -> None:
        settings["channel"].note.remote(text)

    device = ray.train.torch.get_device()
    notice = ClusterNotice(settings["channel"], rank, device)
    try:
        result = run_training(job, DeepSpeedEngine, report, rank, world, device, notice, say)
    except Preempted as err:  # on every rank, so that all end well
        if rank == 0:
            ray.get(settings["channel"].finish.remote(None, err))
        return
    except XalignError as err:
        ray.get(settings["channel"].finish.remote(None, err))
        if world > 1:  # the others may wait in a collective: only a failure ends them
            raise
        return
    if rank == 0:
        ray.get(settings["channel"].finish.remote(result, None))


def _threads(workers_here: int) -> int:
    """Cores of this node per worker on it; Ray would leave each worker one."""
    return max(1, len(os.sched_getaffinity(0)) // workers_here)


def _train_here(
    job: TrainJob, on_step: Callable[[dict[str, Any]], None] | None, say: Callable[[str], None]
) -> TrainResult:
    if job.training.deepspeed.zero_stage > 0:
        raise ConfigError(
            "runtime.train_workers=0 trains without DeepSpeed, but training.deepspeed.zero_stage is "
            f"{job.training.deepspeed.zero_stage}",
            "set runtime.train_workers=1, or training.deepspeed.zero_stage=0",
        )

    def report(record: StepRecord) -> None:
        observe_step(record.to_json())
        if on_step is not None:
            on_step(record.to_json())

    with Terminated() as notice:
        return run_training(job, TorchEngine, report, notice=notice, say=say)


@contextmanager
def _relay(
    channel: Any,
    on_step: Callable[[dict[str, Any]], None] | None,
    say: Callable[[str], None] = _log.info,
    stop: threading.Event | None = None,
) -> Iterator[None]:
    """Hand on what the workers say while the trainer runs, all of it by the end, and ``stop`` to them."""
    done, clock = threading.Event(), TrainingTime(say)

    def pump() -> None:
        while True:
            last = done.wait(_POLL_SECONDS)
            if stop is not None and stop.is_set():
                channel.stop.remote()
            records, warnings, notes = ray.get(channel.drain.remote())
            for text in notes:
                say(text)
            for text in warnings:
                _log.warning("%s", text)
            for attempt, at, record in records:
                clock.heard(attempt, record["step"], at)
                observe_step(record)
                if on_step is not None:
                    on_step(record)
            if last:
                return

    # In this thread's context, which says which run, stage and round the events are of.
    inside = contextvars.copy_context()
    thread = threading.Thread(target=inside.run, args=(pump,), name="xalign-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _reason(failure: TrainingFailedError | None) -> str:
    lines = str(failure).strip().splitlines() if failure is not None else []
    return lines[-1] if lines else "no result came back"
