"""DeepSpeed under Ray Train: every ZeRO stage and cached gradients equal one plain torch process."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from training_world import tiny_job

from xalign_dist.config import DeepSpeedConfig, ObjectiveConfig, RuntimeConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.errors import DataError, Preempted, TrainingError
from xalign_dist.runtime.channel import Channel, ToDriver, relay
from xalign_dist.runtime.train import train
from xalign_dist.training import TrainJob, run_training
from xalign_dist.training.checkpoint import Checkpoints
from xalign_dist.training.telemetry import read_telemetry

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

TOLERANCE = 1e-5
# No clipping and no Adam: both would hide a wrong scale. 13 pairs: uneven ranks, uneven last chunk.
SGD = {
    **{"steps": 4, "batch_pairs": 13, "optimizer": "sgd", "learning_rate": 1e-2, "clip_norm": 1e9},
    "checkpoint_every": 4,
}
ADAM = {"steps": 8, "batch_pairs": 13, "learning_rate": 1e-3, "checkpoint_every": 4}


def variant(job: TrainJob, name: str, stage: int = 0, chunk: int | None = None, **changes: Any) -> TrainJob:
    home = Path(job.work).parent
    training = job.training.model_copy(
        update={"deepspeed": DeepSpeedConfig(zero_stage=stage), "chunk_pairs": chunk}
    )
    fields = {"training": training, "work": str(home / name), "out": str(home / f"{name}.out"), **changes}
    return dataclasses.replace(job, **fields)


def weights(job: TrainJob) -> dict[str, torch.Tensor]:
    checkpoint = Checkpoints(f"{job.work}/checkpoints", keep=1).newest()
    assert checkpoint is not None
    return checkpoint.tensors["encoder"]


def losses(job: TrainJob) -> list[float]:
    return [r["loss"] for r in read_telemetry(Path(job.work) / "telemetry.jsonl")]


def assert_equal_training(job: TrainJob, reference: TrainJob, losses_from: int = 0) -> None:
    assert losses(job) == pytest.approx(losses(reference)[losses_from:], rel=TOLERANCE), job.work
    start = dict(load_encoder(job.model, device="cpu").named_parameters())
    one, two = weights(job), weights(reference)
    names = [n for n in two if "word_embeddings" not in n]  # trimmed: rows of the full matrix moved
    wrong = sum(float((one[n] - two[n]).square().sum()) for n in names)
    moved = sum(float((two[n] - start[n].detach()).square().sum()) for n in names)
    assert moved > 0
    assert (wrong / moved) ** 0.5 < TOLERANCE, job.work
    torch.testing.assert_close(*(w["backbone.embeddings.word_embeddings.weight"] for w in (one, two)))


def test_two_workers_in_every_zero_stage_plain_and_cached_are_one_process(tmp_path: Path) -> None:
    def run_jobs(settings: dict[str, Any]) -> None:
        # All jobs in one worker group: starting one costs more than training them. A local function,
        # because workers cannot import this module.
        from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

        context = ray.train.get_context()
        for job in settings["jobs"]:
            run_training(
                job, DeepSpeedEngine, rank=context.get_world_rank(), world_size=context.get_world_size()
            )

    base = tiny_job(tmp_path, dropout=0.0, stop_step=4, total_steps=4, training=SGD)
    adam = tiny_job(tmp_path, training=ADAM)
    reference, adam_reference = variant(base, "torch"), variant(adam, "torch-adam")
    run_training(reference)
    run_training(adam_reference)
    jobs = [
        variant(base, f"zero{stage}-{chunk}", stage, chunk) for stage in (0, 1, 2, 3) for chunk in (None, 3)
    ]
    halves = [variant(adam, f"half{stage}", stage, stop_step=4) for stage in (0, 2, 3)]
    # What one stage has saved, another continues.
    rests = [
        variant(adam, f"rest{stage}", stage, start_step=4, init_checkpoint=half.work)
        for half, stage in zip(halves, (3, 0, 1), strict=True)
    ]
    TorchTrainer(
        run_jobs,
        train_loop_config={"jobs": [*jobs, *halves, *rests]},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(name="parity", storage_path=str(tmp_path / "ray")),
    ).fit()
    for job in jobs:
        assert_equal_training(job, reference)
    for rest in rests:
        assert losses(rest) == pytest.approx(losses(adam_reference)[4:], rel=1e-4), rest.work
    # One worker's checkpoint of ZeRO 2 on two workers, continued by plain torch on one.
    alone = variant(adam, "alone", start_step=4, init_checkpoint=halves[1].work)
    run_training(alone)
    assert losses(alone) == pytest.approx(losses(adam_reference)[4:], rel=1e-4)


def train_worker_pids() -> list[int]:
    """Ray Train workers of this test's own cluster: descendants of this process, by name."""
    found, parents = [], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = dict(
                    line.split(":\t", 1)
                    for line in (entry / "status").read_text().splitlines()
                    if ":\t" in line
                )
                parents[int(entry.name)] = int(status["PPid"])
                if b"RayTrainWorker" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (OSError, KeyError):
                continue

    def ours(pid: int) -> bool:
        while pid > 1:
            if pid == os.getpid():
                return True
            pid = parents.get(pid, 0)
        return False

    return [pid for pid in found if ours(pid)]


@pytest.mark.faults
def test_killed_worker_is_restarted_from_its_checkpoint_with_the_same_curve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = tiny_job(
        tmp_path,
        stop_step=100,
        total_steps=100,
        training={**SGD, "learning_rate": 1e-3, "chunk_pairs": 5, "checkpoint_every": 10},
    )
    reference = variant(job, "reference", chunk=5)
    run_training(reference)
    zero3 = variant(job, "killed", stage=3, chunk=5)
    killed: list[int] = []
    steps: list[int] = []
    said: list[str] = []
    times: list[float] = []

    def on_step(record: dict[str, Any]) -> None:
        steps.append(record["step"])
        times.append(time.monotonic())
        if record["step"] >= 20 and not killed:
            killed.extend(train_worker_pids())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    result = train(zero3, RuntimeConfig(max_failures=1), str(tmp_path / "ray"), on_step, said.append)
    assert len(killed) == 1
    # What it cost is said and logged: every step that came twice, and the time from the checkpoint on.
    (loss,) = [record for record in caplog.records if getattr(record, "figures", {}).get("event") == "lost"]
    assert loss.levelname == "WARNING"
    assert loss.getMessage() in said
    figures = loss.figures  # type: ignore[attr-defined]
    # The last time that the step after the checkpoint came, which may not have been lost.
    again = len(steps) - 1 - steps[::-1].index(figures["checkpoint"] + 1)
    assert figures["stopped_after"] == steps[again - 1]
    assert figures["checkpoint"] % 10 == 0
    assert figures["steps"] == len(steps) - 100 == figures["stopped_after"] - figures["checkpoint"]
    assert 0 < figures["seconds_without_training"] <= figures["seconds"] < times[-1] - times[0]
    assert figures["seconds_without_training"] == pytest.approx(times[again] - times[again - 1], abs=2)
    assert result.steps == steps[-1] == 100
    assert [r["step"] for r in read_telemetry(Path(zero3.work) / "telemetry.jsonl")] == list(range(1, 101))
    assert losses(zero3) == pytest.approx(losses(reference), rel=1e-3)


@pytest.mark.faults
def test_sigterm_to_the_driver_is_a_checkpoint_and_the_same_command_continues(tmp_path: Path) -> None:
    # No checkpoint is planned before the last step: what there is was asked for.
    settings = {**SGD, "learning_rate": 1e-3, "checkpoint_every": 400}
    job = tiny_job(tmp_path, dropout=0.0, stop_step=400, total_steps=400, training=settings)
    said: list[str] = []
    steps: list[int] = []

    def on_step(record: dict[str, Any]) -> None:
        steps.append(record["step"])
        if record["step"] == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted, match="stopped on notice after step"):
        train(job, RuntimeConfig(train_workers=2), str(tmp_path / "ray"), on_step, said.append)
    (step,) = Checkpoints(f"{job.work}/checkpoints", 9).steps()
    assert 10 <= step < 400
    assert steps[-1] == step
    assert said[0].startswith("memory per worker about")
    rest = dataclasses.replace(job, stop_step=step + 3, total_steps=400)
    train(rest, RuntimeConfig(), str(tmp_path / "ray"), lambda r: steps.append(r["step"]))
    assert steps == list(range(1, step + 4))


def test_a_fault_of_the_users_arrives_as_it_was_raised(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, training_set=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere"):
        train(job, RuntimeConfig(max_failures=2), str(tmp_path / "ray"))


@pytest.mark.faults
def test_two_workers_that_diverge_end_with_that_and_are_not_restarted_into_a_success(tmp_path: Path) -> None:
    settings = {"batch_pairs": 24, "learning_rate": 1e-2, "checkpoint_every": 1000}
    objective = ObjectiveConfig.model_validate({"regulariser": {"enabled": False}})
    job = tiny_job(tmp_path, stop_step=60, total_steps=60, training=settings, objective=objective)
    run_training(job)
    diverging = variant(job, "diverging", model=job.out)
    rate = {"learning_rate": 0.5, "checkpoint_every": 5}
    diverging = dataclasses.replace(diverging, training=diverging.training.model_copy(update=rate))
    steps: list[int] = []
    with pytest.raises(TrainingError, match="training diverges"):
        train(
            diverging,
            RuntimeConfig(train_workers=2, max_failures=2),
            str(tmp_path / "ray"),
            lambda r: steps.append(r["step"]),
        )
    assert 20 <= len(steps) < 60
    assert steps == list(range(1, len(steps) + 1))
    assert not Path(diverging.out).exists()


def test_a_workers_warnings_are_heard_where_the_command_runs(caplog: pytest.LogCaptureFixture) -> None:
    # Ray's decorator hides these methods from mypy.
    channel = Channel.remote()  # type: ignore[attr-defined]
    logger = logging.getLogger("xalign_dist.training.somewhere")
    handler = ToDriver(channel)
    logger.addHandler(handler)
    try:
        with relay(channel, None):
            logger.info("a step")
            logger.warning("step %d skipped", 7)
            caplog.clear()
    finally:
        logger.removeHandler(handler)
    assert [r.getMessage() for r in caplog.records] == ["step 7 skipped"]
