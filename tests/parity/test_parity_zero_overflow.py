"""A gradient that is not finite changes no weight, in any engine and ZeRO stage."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from training_ranks import run_ranks
from training_world import tiny_job

from xalign_dist.training import Engine, TorchEngine, TrainJob
from xalign_dist.training.run import load_trainee

STAGES = (0, 1, 2, 3)


def overflow(engine: Engine) -> None:
    ids, mask = engine.encoder.collate(engine.encoder.tokenize(["e1 e2", "e3"]))

    def step(scale: float) -> float:
        engine.backward(engine.encode(ids, mask)[:, 0].sum() * scale)
        return engine.step(1e-2)

    before = engine.state().parameters
    assert not math.isfinite(step(float("inf")))
    after = engine.state().parameters
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert math.isfinite(step(1.0))
    moved = engine.state().parameters
    assert any(not torch.equal(before[name], moved[name]) for name in before)
    assert all(torch.isfinite(value).all() for value in moved.values())


def in_every_stage(rank: int, world: int, jobs: list[TrainJob]) -> None:
    from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

    for job in jobs:
        overflow(DeepSpeedEngine(load_trainee(job, torch.device("cpu")), job.training))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_plain_torch(tmp_path: Path, optimizer: str) -> None:
    job = tiny_job(tmp_path, training={"optimizer": optimizer})
    overflow(TorchEngine(load_trainee(job, torch.device("cpu")), job.training))


@pytest.mark.faults
def test_deepspeed(tmp_path: Path) -> None:
    settings = [{"deepspeed": {"zero_stage": stage}} for stage in STAGES]
    run_ranks(1, in_every_stage, [tiny_job(tmp_path, training=training) for training in settings])
