"""A training job on Ray Train, with DeepSpeed: workers, restarts, live progress."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import ConfigError, Preempted, ResourceError, StageError, XalignError
from xalign_dist.runtime.channel import Channel, ToDriver, relay
from xalign_dist.runtime.demand import Demand, training_demand
from xalign_dist.runtime.metrics import observe_step
from xalign_dist.runtime.notice import ClusterNotice
from xalign_dist.runtime.waiting import wait_for
from xalign_dist.training.engine import TorchEngine
from xalign_dist.training.job import TrainJob, TrainResult
from xalign_dist.training.loop import StepRecord
from xalign_dist.training.notice import Terminated
from xalign_dist.training.run import run_training

_log = logging.getLogger(__name__)

#: How long Ray Train waits for a group of workers to find its places (its own default: 60 s). A group that is
#: planned before the loss of a node was noticed never finds them, and all others wait that long.
_PLACE_SECONDS = "15"
#: How often Ray Train looks whether an elastic job can have more workers.
GROW_SECONDS = 60.0
_PROBE_SECONDS = 60.0
#: glibc gives a thread that is not the first (Ray Train's) an arena that returns large blocks to the system
#: and fetches them again at every step: a fifth of the step in page faults. These keep them.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
}


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
        ResourceError: the cluster can never give the workers, or torch finds no GPU where they ran.
        XalignError: what :func:`run_training` raises, as it was raised in the worker.
        StageError: the worker group failed more than ``runtime.max_failures`` times.
    """
    if runtime.train_workers == 0:
        return _train_here(job, on_step, say)
    # On this node, which lives as long as the command does; another one may be taken away.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Ray's decorator hides these methods from mypy.
    channel = Channel.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
    demand = training_demand(runtime, ray.cluster_resources())
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", _PLACE_SECONDS)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "channel": channel, "most": runtime.train_workers_max or 0},
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
    with Terminated() as terminated, relay(channel, on_step, say, terminated.event):
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
        _check_gpu(demand)
        raise StageError(
            f"training failed on the cluster: {_reason(failure)}",
            "look into the Ray logs of the workers; the same command continues from the last checkpoint",
        ) from failure
    return result


def _check_gpu(demand: Demand) -> None:
    """After a failure: whether torch finds the GPUs that the nodes promise; what it raises names only NCCL.

    Raises:
        ResourceError: it finds none.
    """
    share, labels = demand.resources.get("GPU", 0.0), dict(demand.labels)
    if not share:
        return
    asked = _torch_finds_gpu.options(num_gpus=share, label_selector=labels or None).remote()
    try:
        where = ray.get(asked, timeout=_PROBE_SECONDS)
    except (RayError, TimeoutError):
        ray.cancel(asked, force=True)
        return  # a node that went away or is taken says nothing about its GPUs
    if where is not None:
        raise ResourceError(
            f"training asks for {demand}, and torch finds no GPU on {where}",
            "give its group machines with GPUs and their driver, and a torch built for CUDA (target cuda of "
            "cluster/Dockerfile); or set runtime.gpus_per_worker=0 to train on CPUs",
        )


@ray.remote(num_cpus=0, max_retries=0)
def _torch_finds_gpu() -> str | None:
    """None, or this node's address where torch finds none."""
    return None if torch.cuda.is_available() else str(ray.util.get_node_ip_address())


def scaling(runtime: RuntimeConfig, demand: Demand) -> ScalingConfig:
    """Ray Train's words for ``demand`` (see :func:`~xalign_dist.runtime.demand.training_demand`).

    A worker computes on more cores than it reserves, see :func:`_threads`.
    """
    low, high = demand.count, max(demand.count, runtime.train_workers_max or demand.count)
    return ScalingConfig(
        num_workers=(low, high) if high > low else low,
        elastic_resize_monitor_interval_s=GROW_SECONDS,
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
        logging.getLogger("xalign_dist").addHandler(ToDriver(settings["channel"]))

    def report(record: StepRecord) -> None:
        if rank == 0:
            settings["channel"].push.remote(attempt, record.to_json())
        # A barrier: every rank, equally often, and seldom.
        if record.step % job.training.checkpoint_every == 0 or record.step == job.stop_step:
            ray.train.report({"step": record.step, "loss": record.loss})

    def say(text: str) -> None:
        settings["channel"].note.remote(text)

    device = ray.train.torch.get_device()
    notice = ClusterNotice(settings["channel"], rank, device, grows=world < settings["most"])
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


def _reason(failure: TrainingFailedError | None) -> str:
    lines = str(failure).strip().splitlines() if failure is not None else []
    return lines[-1] if lines else "no result came back"
