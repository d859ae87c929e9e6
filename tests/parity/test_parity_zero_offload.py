"""Optimizer state in the memory of the CPU (ZeRO 1, 2 and 3): the same training, also through a resume."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from training_ranks import run_ranks
from training_world import tiny_job

from xalign_dist.config import DeepSpeedConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.errors import Preempted
from xalign_dist.training import TrainJob, run_training
from xalign_dist.training.notice import Notice
from xalign_dist.training.telemetry import read_telemetry

TRAINING = {"chunk_pairs": 4, "batch_pairs": 13, "checkpoint_every": 100}


def job_of(home: Path, stage: int) -> TrainJob:
    job = tiny_job(home, dropout=0.0, training=TRAINING)
    deepspeed = DeepSpeedConfig(zero_stage=stage, offload="cpu" if stage else "none")
    training = job.training.model_copy(update={"deepspeed": deepspeed})
    return dataclasses.replace(
        job, work=str(home / f"zero{stage}"), out=str(home / f"zero{stage}.out"), training=training
    )


def train_in_halves(rank: int, world: int, home: Path) -> None:
    from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

    for stage in (1, 2, 3):
        answers = iter([Notice.NONE] * 3 + [Notice.STOP])
        job = job_of(home, stage)
        with pytest.raises(Preempted):
            run_training(job, DeepSpeedEngine, rank=rank, world_size=world, notice=lambda a=answers: next(a))
        run_training(job, DeepSpeedEngine, rank=rank, world_size=world)


@pytest.mark.faults
def test_offloaded_is_plain_on_two_ranks(tmp_path: Path) -> None:
    reference = job_of(tmp_path, 0)
    run_training(reference)
    run_ranks(2, train_in_halves, tmp_path)
    wanted = [r["loss"] for r in read_telemetry(Path(reference.work) / "telemetry.jsonl")]
    weights = load_encoder(reference.out, device="cpu").state_dict()
    start = load_encoder(reference.model, device="cpu").state_dict()
    for stage in (1, 2, 3):
        job = job_of(tmp_path, stage)
        losses = [r["loss"] for r in read_telemetry(Path(job.work) / "telemetry.jsonl")]
        assert losses == pytest.approx(wanted, rel=1e-4), stage
        # With AdamW: without its moments, or with wrong ones, the weights end elsewhere.
        ended = load_encoder(job.out, device="cpu").state_dict()
        wrong = sum(float((ended[n] - weights[n]).square().sum()) for n in weights)
        moved = sum(float((start[n] - weights[n]).square().sum()) for n in weights)
        assert (wrong / moved) ** 0.5 < 1e-2, stage
