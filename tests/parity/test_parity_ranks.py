"""W ranks are one process, and cached gradients are plain gradients: loss, parameters, telemetry.

With SGD and no clipping, so that a wrong scale shows; errors are measured against the update, not
against the parameters, which are larger.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from training_ranks import run_ranks
from training_world import tiny_job

from xalign_dist.encoder import load_encoder
from xalign_dist.training import TrainJob, run_training
from xalign_dist.training.checkpoint import Checkpoints
from xalign_dist.training.telemetry import read_telemetry

TOLERANCE = 1e-5
# 13 pairs: neither 2 nor 3 ranks share them evenly, and chunks of 3 pairs leave an uneven last one.
SETTINGS = {
    **{"steps": 4, "batch_pairs": 13, "optimizer": "sgd", "learning_rate": 1e-2, "clip_norm": 1e9},
    "checkpoint_every": 4,
}


class Run(NamedTuple):
    losses: list[float]
    norms: list[float]
    parameters: dict[str, Tensor]


def job_in(home: Path, name: str, **training: object) -> TrainJob:
    job = tiny_job(home, dropout=0.0, stop_step=4, total_steps=4, training={**SETTINGS, **training})
    return dataclasses.replace(job, out=str(home / f"{name}.out"), work=str(home / name))


def train_rank(rank: int, world: int, jobs: list[TrainJob]) -> None:
    for job in jobs:
        run_training(job, rank=rank, world_size=world)


def outcome(job: TrainJob) -> Run:
    steps = read_telemetry(Path(job.work) / "telemetry.jsonl")
    checkpoint = Checkpoints(f"{job.work}/checkpoints", keep=1).newest()
    assert checkpoint is not None
    tensors = {**checkpoint.tensors["encoder"], **checkpoint.tensors["objective"]}
    return Run([s["loss"] for s in steps], [s["gradient_norm"] for s in steps], tensors)


def relative_error(run: Run, reference: Run, start: dict[str, Tensor]) -> float:
    names = [n for n in reference.parameters if n in start]
    assert len(names) > 30
    wrong = sum(float((run.parameters[n] - reference.parameters[n]).square().sum()) for n in names)
    moved = sum(float((reference.parameters[n] - start[n]).square().sum()) for n in names)
    assert moved > 0
    return float((wrong / moved) ** 0.5)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def reference(home: Path) -> Run:
    job = job_in(home, "one")
    run_training(job)
    return outcome(job)


def start_of(home: Path) -> dict[str, Tensor]:
    encoder = load_encoder(str(home / "tiny"), device="cpu")
    return {k: v.detach() for k, v in encoder.named_parameters() if "word_embeddings" not in k}


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_and_chunks_change_nothing(home: Path, reference: Run, world: int) -> None:
    chunks = (3,) if world == 1 else (None, 3)
    jobs = [job_in(home, f"w{world}c{chunk}", chunk_pairs=chunk) for chunk in chunks]
    if world == 1:
        train_rank(0, 1, jobs)
    else:
        run_ranks(world, train_rank, jobs)
    for job in jobs:
        compare(outcome(job), reference, start_of(home))


def compare(run: Run, reference: Run, start: dict[str, Tensor]) -> None:
    assert run.losses == pytest.approx(reference.losses, rel=TOLERANCE)
    assert run.norms == pytest.approx(reference.norms, rel=TOLERANCE)
    assert relative_error(run, reference, start) < TOLERANCE
    (table,) = (name for name in reference.parameters if "word_embeddings" in name)
    torch.testing.assert_close(run.parameters[table], reference.parameters[table], rtol=3e-7, atol=1e-7)
    for name, value in reference.parameters.items():
        if name.startswith(("adversary", "temperature", "accuracy")):
            torch.testing.assert_close(run.parameters[name], value, rtol=1e-4, atol=1e-6)
