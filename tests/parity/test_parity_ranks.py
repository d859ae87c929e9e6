"""W ranks are one process, and cached gradients are plain gradients: loss, parameters, telemetry.

With SGD and no clipping, so that a wrong scale shows; errors are measured against the update, not
against the parameters, which are larger.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from training_ranks import run_ranks
from training_world import tiny_job

from xalign_dist.config import ObjectiveConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.objective import BatchMeta, DynamicObjective
from xalign_dist.training import TorchEngine, TrainJob, run_training
from xalign_dist.training.checkpoint import Checkpoints
from xalign_dist.training.engine import EngineFactory
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


def train_rank(rank: int, world: int, jobs: list[TrainJob], deepspeed: bool = False) -> None:
    factory: EngineFactory = TorchEngine
    if deepspeed:
        from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

        factory = DeepSpeedEngine
    for job in jobs:
        run_training(job, factory, rank=rank, world_size=world)


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


@pytest.mark.faults
@pytest.mark.parametrize("world", [1, 3])
def test_nor_does_deepspeed(home: Path, reference: Run, world: int) -> None:
    jobs = [job_in(home, f"d{world}c{chunk}", chunk_pairs=chunk) for chunk in (None, 3)]
    run_ranks(world, train_rank, jobs, True)
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


def duplicated(rows: slice) -> tuple[Tensor, Tensor, BatchMeta]:
    """Rows of a batch of 13 pairs of which 0, 6 and 12 share a source, 2 and 8 a target: on any two ranks."""
    draw = torch.Generator().manual_seed(0)
    src, tgt, ref_src, ref_tgt = (F.normalize(torch.randn(13, 8, generator=draw), dim=1) for _ in range(4))
    src_key, tgt_key = torch.arange(13), torch.arange(13) + 100
    for one, other in ((6, 0), (12, 0)):
        src[one], src_key[one], ref_src[one] = src[other], src_key[other], ref_src[other]
    tgt[8], tgt_key[8], ref_tgt[8] = tgt[2], tgt_key[2], ref_tgt[2]
    languages, weights = torch.arange(13) % 3, torch.linspace(0.5, 1.0, 13)
    parts = (src_key, tgt_key, torch.zeros(13, dtype=torch.int64), languages, weights, ref_src, ref_tgt)
    return src[rows], tgt[rows], BatchMeta(*(part[rows] for part in parts))


def objective_of(rank: int, world: int, home: Path) -> None:
    shares = np.array_split(np.arange(13), world)[rank]
    src, tgt, meta = duplicated(slice(int(shares[0]), int(shares[-1]) + 1))
    src, tgt = src.clone().requires_grad_(), tgt.clone().requires_grad_()
    out = DynamicObjective(ObjectiveConfig.paper(), 8, 3)(src, tgt, meta, 0.5)
    out.loss.backward()
    torch.save((out.trace, src.grad, tgt.grad), home / f"objective-{world}-{rank}.pt")


@pytest.mark.parametrize("world", [2, 3])
def test_duplicate_texts_on_different_ranks_are_masked_as_in_one_process(tmp_path: Path, world: int) -> None:
    objective_of(0, 1, tmp_path)
    trace, *wanted = torch.load(tmp_path / "objective-1-0.pt")
    assert trace["masked_share"] > 0
    run_ranks(world, objective_of, tmp_path)
    found = [torch.load(tmp_path / f"objective-{world}-{rank}.pt") for rank in range(world)]
    for other, *_ in found:
        assert other == pytest.approx(trace, rel=TOLERANCE, abs=1e-7)
    # A rank's gradient is W times the whole one's, which the mean over ranks undoes (objective/gather.py).
    for side, gradient in enumerate(wanted, start=1):
        torch.testing.assert_close(
            torch.cat([f[side] for f in found]) / world, gradient, rtol=1e-4, atol=1e-6
        )
