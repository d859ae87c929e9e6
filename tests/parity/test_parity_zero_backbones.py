"""Decoders, LoRA, recomputed activations and heads under ZeRO: what plain torch makes of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from encoder_world import write_tiny
from torch import Tensor
from training_ranks import run_ranks
from training_world import pairs, tiny_job

from xalign_dist.config import DeepSpeedConfig, EncoderConfig, ObjectiveConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.pipeline.train import write_set
from xalign_dist.training import TrainJob, run_training

OBJECTIVE = ObjectiveConfig.model_validate({"regulariser": {"enabled": False}})
SGD = {
    **{"batch_pairs": 13, "chunk_pairs": 5, "optimizer": "sgd", "learning_rate": 1e-2, "clip_norm": 1e9},
    "checkpoint_every": 4,
}
LORA = {"lora_rank": 4, "gradient_checkpointing": True, "query_prefix": "e1 "}
ARMS: dict[str, tuple[str, dict[str, Any], int]] = {
    "qwen3-lora-zero3": ("qwen3", LORA, 3),
    "qwen3-head-zero2": ("qwen3", {"projection": "mlp", "projection_dim": 8}, 2),
    "bert-orthogonal-zero3": ("tiny", {"projection": "linear", "orthogonal": True}, 3),
}


def job_of(home: Path, arm: str, name: str, stage: int) -> TrainJob:
    kind, encoder, _ = ARMS[arm]
    base = tiny_job(home, dropout=0.0, stop_step=4, total_steps=4, training=SGD, objective=OBJECTIVE)
    model = home / kind
    if not model.exists():
        write_tiny(home, kind)
    training = base.training.model_copy(update={"deepspeed": DeepSpeedConfig(zero_stage=stage)})
    return dataclasses.replace(
        base,
        **{"model": str(model), "encoder": EncoderConfig(model=str(model), **encoder), "training": training},
        **{"work": str(home / f"{arm}.{name}"), "out": str(home / f"{arm}.{name}.out")},
        **{"training_set": str(home / f"{arm}.set")},
    )


def train_rank(rank: int, world: int, jobs: list[TrainJob]) -> None:
    from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

    for job in jobs:
        run_training(job, DeepSpeedEngine, rank=rank, world_size=world)


def weights(path: str) -> dict[str, Tensor]:
    return {k: v.detach() for k, v in load_encoder(path, device="cpu").named_parameters()}


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_two_ranks_under_zero_are_one_process_of_plain_torch(tmp_path: Path) -> None:
    reference = {arm: job_of(tmp_path, arm, "torch", 0) for arm in ARMS}
    for job in reference.values():
        write_set(job, pairs(), None)
        run_training(job)
    sharded = {arm: job_of(tmp_path, arm, "zero", stage) for arm, (_, _, stage) in ARMS.items()}
    run_ranks(2, train_rank, list(sharded.values()))
    for arm, job in reference.items():
        start, one, two = weights(job.model), weights(job.out), weights(sharded[arm].out)
        assert one.keys() == two.keys()
        wrong = sum(float((one[k] - two[k]).square().sum()) for k in one)
        moved = sum(float((one[k] - start[k]).square().sum()) for k in one if k in start)
        assert moved > 0, arm
        assert (wrong / moved) ** 0.5 < 1e-4, arm
        if "orthogonal" in arm:
            head = two["head.0.weight"]
            torch.testing.assert_close(head @ head.T, torch.eye(len(head)), atol=1e-5, rtol=0)
