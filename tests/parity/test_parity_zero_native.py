"""Weights in 16 bits (DeepSpeed's own bf16, ZeRO 2 and 3): exact fp32 weights behind them, through a resume.

And what every stage owes a resume: moments from the start, also of parameters that never had a gradient.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_ranks import run_ranks
from training_world import tiny_job

from xalign_dist.config import DeepSpeedConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.errors import Preempted
from xalign_dist.training import Engine, TorchEngine, TrainJob, run_training
from xalign_dist.training.checkpoint import Checkpoints
from xalign_dist.training.notice import Notice
from xalign_dist.training.run import load_trainee
from xalign_dist.training.telemetry import read_telemetry

CPU = torch.device("cpu")
ADAM = {"precision": "bf16", "chunk_pairs": 4, "batch_pairs": 13, "checkpoint_every": 100}
SGD = {**ADAM, "optimizer": "sgd", "learning_rate": 1e-2, "clip_norm": 1e9}


def job_of(home: Path, name: str, stage: int, settings: dict[str, Any], native: bool = True) -> TrainJob:
    job = tiny_job(home, dropout=0.0, training=settings)
    extra = {"bf16": {"enabled": True}} if native else {}
    training = job.training.model_copy(update={"deepspeed": DeepSpeedConfig(zero_stage=stage, extra=extra)})
    return dataclasses.replace(job, work=str(home / name), out=str(home / f"{name}.out"), training=training)


def state_of(job: TrainJob) -> dict[str, dict[str, Tensor]]:
    return Checkpoints.load(job.work).tensors


def losses(job: TrainJob) -> list[float]:
    return [r["loss"] for r in read_telemetry(Path(job.work) / "telemetry.jsonl")]


def train_native(rank: int, world: int, home: Path) -> None:
    from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

    for stage in (2, 3):
        started = load_trainee(job_of(home, "x", stage, ADAM), CPU)
        exact = {name: p.detach().clone() for name, p in started.named_parameters()}
        held = DeepSpeedEngine(started, job_of(home, "x", stage, ADAM).training).state()
        if rank == 0:
            assert held.parameters.keys() == exact.keys()
            assert all(torch.equal(held.parameters[name], exact[name]) for name in exact), stage
        for name, settings in (("sgd", SGD), ("whole", ADAM)):
            job = job_of(home, f"{name}{stage}{world}", stage, settings)
            run_training(job, DeepSpeedEngine, rank=rank, world_size=world)
        halves = job_of(home, f"halves{stage}{world}", stage, ADAM)
        answers = iter([Notice.NONE] * 3 + [Notice.STOP])
        with pytest.raises(Preempted):
            run_training(
                halves, DeepSpeedEngine, rank=rank, world_size=world, notice=lambda a=answers: next(a)
            )
        run_training(halves, DeepSpeedEngine, rank=rank, world_size=world)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", [1, 2])
def test_native_bf16_averages_and_continues_as_if_it_had_not_stopped(tmp_path: Path, world: int) -> None:
    reference = job_of(tmp_path, "reference", 0, {**SGD, "precision": "fp32"}, native=False)
    run_training(reference)
    run_ranks(world, train_native, tmp_path)
    start = {n: p.detach() for n, p in load_trainee(reference, CPU).named_parameters()}
    for stage in (2, 3):
        whole, halves = (job_of(tmp_path, f"{n}{stage}{world}", stage, ADAM) for n in ("whole", "halves"))
        assert losses(halves) == losses(whole)
        for part, tensors in state_of(whole).items():
            found = state_of(halves)[part]
            assert all(torch.equal(found[name], tensors[name]) for name in tensors), (stage, part)
        # In 16 bits the update is right to some percent; a gradient not averaged would be twice as long.
        sgd, exact = (state_of(job_of(tmp_path, f"sgd{stage}{world}", stage, SGD)), state_of(reference))
        sgd, exact = sgd["encoder"], exact["encoder"]
        wrong = sum(float((sgd[n] - exact[n]).square().sum()) for n in exact)
        moved = sum(float((exact[n] - start[n]).square().sum()) for n in exact)
        assert moved > 0
        assert (wrong / moved) ** 0.5 < 0.1, stage
        # What is saved is what was trained with.
        saved = load_encoder(whole.out, device="cpu").state_dict()
        name = "backbone.encoder.layer.0.output.dense.weight"
        torch.testing.assert_close(saved[name].float(), state_of(whole)["encoder"][name].bfloat16().float())


def idle_goes_on(job: TrainJob, kind: Any) -> None:
    """A parameter that is never used: saved, continued, with as many updates as the others."""

    def engine() -> Engine:
        encoder = load_trainee(job, CPU)
        encoder.backbone.register_parameter("idle", torch.nn.Parameter(torch.ones(3, 5)))
        built: Engine = kind(encoder, job.training)
        return built

    one, two = engine(), engine()
    ids, mask = one.encoder.collate(one.encoder.tokenize(["e1 e2", "e3"]))
    for _ in range(2):
        one.backward(one.encode(ids, mask)[:, 0].sum())
        one.step(1e-2)
    state = one.state()
    assert state.updates == 2
    assert {n.split(".", 1)[1] for n in state.moments} == set(state.parameters)
    assert not state.moments["exp_avg.backbone.idle"].any()
    two.load_moments(state)
    again = two.state()
    assert again.updates == 2
    assert all(torch.equal(again.moments[name], state.moments[name]) for name in state.moments)
    # From a checkpoint that has no moments for it.
    for key in ("exp_avg", "exp_avg_sq"):
        del state.moments[f"{key}.backbone.idle"]
    two.load_moments(state)
    assert not two.state().moments["exp_avg_sq.backbone.idle"].any()


def idle_in_every_stage(rank: int, world: int, home: Path) -> None:
    from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

    for stage in (0, 1, 2, 3):
        job = job_of(home, "idle", stage, {}, native=False)
        idle_goes_on(job, DeepSpeedEngine)
        engine = DeepSpeedEngine(load_trainee(job, CPU), job.training)
        moments = sum(v.numel() for held in engine._optimizer.state.values() for v in held.values())
        assert moments >= 2 * sum(p.numel() for p in load_trainee(job, CPU).parameters()), stage


def test_a_parameter_without_a_gradient_is_continued(tmp_path: Path) -> None:
    idle_goes_on(job_of(tmp_path, "idle", 0, {}, native=False), TorchEngine)
    run_ranks(1, idle_in_every_stage, tmp_path)


def test_the_loss_scale_of_fp16_is_continued(tmp_path: Path) -> None:
    job = job_of(tmp_path, "fp16", 0, {}, native=False)
    engines = [TorchEngine(load_trainee(job, CPU), job.training) for _ in range(2)]
    for engine, scale in zip(engines, (128.0, 65536.0), strict=True):
        engine._scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    one, two = engines
    two.load_moments(one.state())
    assert two.state().loss_scale == 128.0
    ids, mask = two.encoder.collate(two.encoder.tokenize(["e1 e2", "e3"]))
    two.backward(two.encode(ids, mask)[:, 0].sum())
    two.step(1e-2)
    assert two.state().loss_scale == 128.0
