"""A dry run of the longest batch before the first step: what does not fit shows at once, not after hours."""

from __future__ import annotations

import numpy as np
import torch

from xalign_dist.batches.batch import Batch
from xalign_dist.batches.plan import BatchPlan
from xalign_dist.config.model import TrainingConfig
from xalign_dist.objective import LossOutput
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.training.loop import Learner, batch_gradient
from xalign_dist.training.memory import memory_fault_named


def longest_step(plan: BatchPlan, training_set: TrainingSet, steps: range, cached: bool) -> int:
    """The step of ``steps`` (of the first epoch of them) whose batch needs the most memory.

    Cached gradients hold one chunk, so the longest text decides; else all tokens of the batch do.
    """
    src_N, tgt_N = training_set.src_length_N, training_set.tgt_length_N
    length_N = np.maximum(src_N, tgt_N) if cached else src_N + tgt_N
    total_N = src_N + tgt_N

    def need(step: int) -> tuple[int, int]:
        rows = plan.batch(step)
        most = length_N[rows].max() if cached else length_N[rows].sum()
        return int(most), int(total_N[rows].sum())

    return max(steps[: plan.steps_per_epoch], key=need)


def rehearse(learner: Learner, batch: Batch, config: TrainingConfig, total_steps: int, seed: int) -> None:
    """Forward and backward pass of ``batch`` without an update. Nothing is left of it.

    All ranks take part. Random numbers, the objective's means and the gradients are as before.

    Raises:
        TrainingError: no memory; names the settings to change.
    """
    device = learner.engine.device
    devices = [device] if device.type == "cuda" else []
    what = f"dry run of the longest batch (step {batch.step + 1}) before the training"
    learner.objective.eval()  # its running means stay
    with (
        torch.random.fork_rng(devices=devices),
        memory_fault_named(what, learner.engine.encoder, config),
    ):
        batch_gradient(learner, batch, config, total_steps, seed, _any)
    learner.objective.train()
    learner.engine.discard()
    if learner.discriminator is not None:
        learner.discriminator.zero_grad(set_to_none=True)


def _any(out: LossOutput, gradient_ND: torch.Tensor) -> bool:
    return True
