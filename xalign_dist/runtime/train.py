"""A training job on Ray Train, with DeepSpeed: workers, restarts, live progress."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import ConfigError, StageError, XalignError
from xalign_dist.training.engine import TorchEngine
from xalign_dist.training.job import TrainJob, TrainResult
from xalign_dist.training.loop import StepRecord
from xalign_dist.training.run import run_training

_POLL_SECONDS = 0.5


@ray.remote(num_cpus=0)
class _Channel:
    """Carries what rank 0 has to say to the driver. Without a CPU, so that it never waits for one."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []
        self._result: TrainResult | None = None
        self._error: XalignError | None = None

    def push(self, record: dict[str, Any]) -> None:
        """One step's figures."""
        self._records.append(record)

    def finish(self, result: TrainResult | None, error: XalignError | None) -> None:
        """The end: a result, or a fault of the user's that no restart would mend."""
        self._result, self._error = result, error

    def drain(self) -> list[dict[str, Any]]:
        """The records since the last call."""
        records, self._records = self._records, []
        return records

    def outcome(self) -> tuple[TrainResult | None, XalignError | None]:
        """What :meth:`finish` was told."""
        return self._result, self._error


def train(
    job: TrainJob,
    runtime: RuntimeConfig,
    storage_path: str,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> TrainResult:
    """Run ``job`` on the connected cluster; a failed worker group is restarted from the newest checkpoint.

    Args:
        job: what to train; its paths must be reachable from every node.
        runtime: workers, GPUs, restarts. ``train_workers=0`` trains in this process, without Ray.
        storage_path: where Ray Train keeps its own books.
        on_step: called in this process for every step, about twice a second, from another thread.

    Raises:
        XalignError: what :func:`run_training` raises, as it was raised in the worker.
        StageError: the worker group failed more than ``runtime.max_failures`` times.
    """
    if runtime.train_workers == 0:
        return _train_here(job, on_step)
    channel = _Channel.remote()  # type: ignore[attr-defined]
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "channel": channel},
        scaling_config=scaling(runtime, ray.cluster_resources()),
        torch_config=TorchConfig(),
        run_config=RunConfig(
            # A name used before would silently resume that run.
            name=f"train-{uuid.uuid4().hex[:12]}",
            storage_path=storage_path,
            failure_config=FailureConfig(max_failures=runtime.max_failures),
        ),
    )
    failure: TrainingFailedError | None = None
    with _relay(channel, on_step):
        try:
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


def scaling(runtime: RuntimeConfig, total: dict[str, float]) -> ScalingConfig:
    """Workers and what each reserves, from the config and the cluster's totals.

    Without GPUs workers never reserve every CPU: a reservation that waits for the rest would hang.
    A worker computes on more cores than it reserves, see :func:`_threads`.

    Raises:
        ConfigError: GPUs are asked of a cluster that has none.
    """
    gpus = int(total.get("GPU", 0))
    gpu_each = (1.0 if gpus else 0.0) if runtime.gpus_per_worker is None else runtime.gpus_per_worker
    if gpu_each > 0 and not gpus:
        raise ConfigError(
            f"runtime.gpus_per_worker={gpu_each} but the cluster has no GPU",
            "set runtime.gpus_per_worker=null",
        )
    low = runtime.train_workers or (max(1, int(gpus / gpu_each)) if gpu_each else 1)
    high = max(low, runtime.train_workers_max or low)
    cpus = total.get("CPU", 1.0)
    resources = {"CPU": 1.0 if gpu_each else min(1.0, max(cpus - 1.0, 0.5) / high)}
    if gpu_each:
        resources["GPU"] = gpu_each
    return ScalingConfig(
        num_workers=(low, high) if high > low else low,
        use_gpu=gpu_each > 0,
        resources_per_worker=resources,
        label_selector=dict(runtime.node_labels) or None,
    )


def _worker(settings: dict[str, Any]) -> None:
    """Runs in every Ray Train worker."""
    from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

    job: TrainJob = settings["job"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(_threads(context.get_local_world_size()))

    def report(record: StepRecord) -> None:
        if rank == 0:
            settings["channel"].push.remote(record.to_json())
        # A barrier: every rank, equally often, and seldom.
        if record.step % job.training.checkpoint_every == 0 or record.step == job.stop_step:
            ray.train.report({"step": record.step, "loss": record.loss})

    try:
        result = run_training(job, DeepSpeedEngine, report, rank, world, ray.train.torch.get_device())
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


def _train_here(job: TrainJob, on_step: Callable[[dict[str, Any]], None] | None) -> TrainResult:
    if job.training.deepspeed.zero_stage > 0:
        raise ConfigError(
            "runtime.train_workers=0 trains without DeepSpeed, but training.deepspeed.zero_stage is "
            f"{job.training.deepspeed.zero_stage}",
            "set runtime.train_workers=1, or training.deepspeed.zero_stage=0",
        )

    def report(record: StepRecord) -> None:
        if on_step is not None:
            on_step(record.to_json())

    return run_training(job, TorchEngine, report)


@contextmanager
def _relay(channel: Any, on_step: Callable[[dict[str, Any]], None] | None) -> Iterator[None]:
    """Hand records to ``on_step`` while the trainer runs, all of them by the end."""
    if on_step is None:
        yield
        return
    done = threading.Event()

    def pump() -> None:
        while True:
            last = done.wait(_POLL_SECONDS)
            for record in ray.get(channel.drain.remote()):
                on_step(record)
            if last:
                return

    thread = threading.Thread(target=pump, name="xalign-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _reason(failure: TrainingFailedError | None) -> str:
    lines = str(failure).strip().splitlines() if failure is not None else []
    return lines[-1] if lines else "no result came back"
