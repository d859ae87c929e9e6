"""A process of its own: two DeepSpeed ranks that train, with dropout and many checkpoints."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from training_ranks import run_ranks
from training_world import tiny_job

from xalign_dist.config import DeepSpeedConfig
from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine
from xalign_dist.training import StepRecord, TrainJob, run_training

TRAINING = {"batch_pairs": 15, "chunk_pairs": 4, "checkpoint_every": 2}


def job_of(home: Path, name: str) -> TrainJob:
    """120 steps of ZeRO 2."""
    job = tiny_job(home, dropout=0.2, stop_step=120, total_steps=120, training=TRAINING)
    training = job.training.model_copy(update={"deepspeed": DeepSpeedConfig(zero_stage=2)})
    return dataclasses.replace(job, work=str(home / name), out=str(home / f"{name}.out"), training=training)


def train(rank: int, world: int, job: TrainJob) -> None:
    """Rank 0 prints every finished step."""

    def report(record: StepRecord) -> None:
        if rank == 0:
            print("step", record.step, flush=True)

    run_training(job, DeepSpeedEngine, report, rank, world)


if __name__ == "__main__":
    # Here, not in the ranks: it writes model and training set, which two at once do not survive.
    run_ranks(2, train, job_of(Path(sys.argv[1]), sys.argv[2]))
