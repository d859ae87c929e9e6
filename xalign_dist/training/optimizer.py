"""Optimizers over parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from xalign_dist.config.model import TrainingConfig

#: Peak learning rate of the language discriminator: small and from scratch, it needs more than the encoder.
DISCRIMINATOR_RATE = 1e-3


def learning_rate(step: int, total_steps: int, config: TrainingConfig) -> float:
    """Rate of the step number ``step`` (from 0): linear warm-up to the peak, then linear decay to 0.

    The peak is reached after ``ceil(warmup_share * total_steps)`` steps; the first step is above 0, and
    0 itself would come at ``total_steps``.
    """
    warmup = math.ceil(config.warmup_share * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * max(0.0, (total_steps - step) / max(1, total_steps - warmup))


def build_optimizer(module: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (or plain SGD, for parity tests) over the trainable parameters; decay on matrices only."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD([g | {"weight_decay": 0.0} for g in groups], lr=config.learning_rate)
    # Fused: one pass over the embedding matrix' weights, gradients and moments instead of a dozen.
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)


def zero_moments(values: Tensor) -> dict[str, Tensor]:
    """AdamW's state of ``values`` before its first step, as AdamW itself would make it then."""
    return {
        "step": torch.zeros((), device=values.device),
        "exp_avg": torch.zeros_like(values),
        "exp_avg_sq": torch.zeros_like(values),
    }


def build_discriminator_optimizer(module: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer | None:
    """The optimizer of the objective's own parameters; None where it has none."""
    parameters = list(module.parameters())
    if not parameters:
        return None
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.learning_rate)
    return torch.optim.AdamW(parameters, lr=DISCRIMINATOR_RATE, weight_decay=0.0)


def discriminator_rate(rate: float, config: TrainingConfig) -> float:
    """The discriminator's rate when the encoder's is ``rate``: both follow the same schedule."""
    if config.optimizer == "sgd":
        return rate
    return DISCRIMINATOR_RATE * rate / config.learning_rate


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
