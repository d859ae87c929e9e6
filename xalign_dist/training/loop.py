"""The training loop, a generator of step records. Evaluation, checkpoints and Ray stay outside."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xalign_dist.batches.batch import Batch, BatchStream
from xalign_dist.config.model import TrainingConfig
from xalign_dist.objective import BatchMeta, CollapseGuard, DynamicObjective, LossOutput
from xalign_dist.objective.gather import GradientMean, rank
from xalign_dist.training.cached import Accept, cached_gradient, plain_gradient
from xalign_dist.training.divergence import DivergenceGuard
from xalign_dist.training.encode import ChunkPlan, plan_chunks
from xalign_dist.training.engine import Engine
from xalign_dist.training.finite import FiniteGuard
from xalign_dist.training.memory import memory_fault_named
from xalign_dist.training.optimizer import discriminator_rate, learning_rate, set_rate
from xalign_dist.training.seeding import seed_dropout


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One finished step.

    Attributes:
        step: steps done, this one included.
        loss: of the global batch; may be not finite where the step was skipped.
        lr: learning rate.
        gradient_norm: before clipping; 0 where the step was skipped.
        pairs_per_second: of all ranks together, waiting included.
        padding_share: share of this rank's encoded tokens that is padding.
        data_wait_share: share of the time so far that was spent waiting for data.
        skipped: loss or gradient was not finite, and nothing was learned.
        trace: figures of the objective, see :class:`~xalign_dist.objective.LossOutput`.
    """

    step: int
    loss: float
    lr: float
    gradient_norm: float
    pairs_per_second: float
    padding_share: float
    data_wait_share: float
    skipped: bool
    trace: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """One flat mapping, the trace's figures beside the others."""
        flat = asdict(self)
        trace: dict[str, Any] = flat.pop("trace")
        return trace | flat


@dataclass
class Learner:
    """What changes in a step.

    Attributes:
        engine: encoder and optimizer.
        objective: with its running means and discriminator.
        discriminator: the objective's optimizer.
        divergence: what the steps so far looked like; None: a new one.
    """

    engine: Engine
    objective: DynamicObjective
    discriminator: torch.optim.Optimizer | None
    divergence: DivergenceGuard | None = None


def train_steps(
    learner: Learner, stream: BatchStream, config: TrainingConfig, total_steps: int, seed: int
) -> Iterator[StepRecord]:
    """One optimizer step for each batch of ``stream``.

    Args:
        learner: what is trained.
        stream: this rank's batches; the first one's step is where training goes on.
        config: the training section.
        total_steps: length of the whole schedule, which ``stream`` may be a slice of.
        seed: of dropout.

    Raises:
        TrainingError: non-finite loss (unless skipped by config), divergence, collapsed embeddings, or
            no memory.
    """
    guard, finite = CollapseGuard(), FiniteGuard(config)
    divergence = learner.divergence or DivergenceGuard(config)
    began = time.perf_counter()
    for batch in stream:
        means = [buffer.clone() for buffer in learner.objective.buffers()]
        rate = learning_rate(batch.step, total_steps, config)
        with memory_fault_named(f"step {batch.step + 1}", learner.engine.encoder, config):
            plan, out, accepted = batch_gradient(
                learner, batch, config, total_steps, seed, partial(finite.accept, batch), finite.look
            )
            norm = _update(learner, rate, config) if accepted else 0.0
        if accepted and finite.updated(batch, norm):
            guard.check(batch.step + 1, out.trace)
            divergence.check(batch.step + 1, out.trace["loss"], norm, rate, out.trace)
        else:
            accepted, norm = False, 0.0
            _forget(learner, means)
        now = time.perf_counter()
        yield StepRecord(
            step=batch.step + 1,
            loss=out.trace["loss"],
            lr=rate,
            gradient_norm=norm,
            pairs_per_second=config.batch_pairs / (now - began),
            padding_share=plan.padding_share,
            data_wait_share=stream.wait_share,
            skipped=not accepted,
            trace=out.trace,
        )
        began = now


def batch_gradient(
    learner: Learner,
    batch: Batch,
    config: TrainingConfig,
    total_steps: int,
    seed: int,
    accept: Accept,
    look: Callable[[Tensor], None] = lambda unit_ND: None,
) -> tuple[ChunkPlan, LossOutput, bool]:
    """Add the gradient of ``batch`` to the engine; see :mod:`~xalign_dist.training.cached`.

    ``look`` is shown the embeddings ``[2B, D]`` (sources, then targets) before the loss.

    Returns:
        How the batch was cut, its loss, and whether ``accept`` let the gradient pass.
    """
    device = learner.engine.device
    gradient = plain_gradient if config.chunk_pairs is None else cached_gradient
    plan = plan_chunks(batch, learner.engine.encoder, config, device)
    loss_of = partial(_loss, learner.objective, batch_meta(batch, device), batch.step / total_steps, look)
    seed_chunk = partial(seed_dropout, seed, batch.step, rank())
    return plan, *gradient(learner.engine, plan, loss_of, seed_chunk, accept)


def batch_meta(batch: Batch, device: torch.device) -> BatchMeta:
    """What the objective needs of ``batch``, as tensors on ``device``."""

    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return BatchMeta(
        src_key_B=tensor(batch.src_key_B),
        tgt_key_B=tensor(batch.tgt_key_B),
        src_lang_B=tensor(batch.src_lang_B),
        tgt_lang_B=tensor(batch.tgt_lang_B),
        weight_B=tensor(batch.weight_B),
        ref_src_BD=None if batch.ref_src_BD is None else tensor(batch.ref_src_BD),
        ref_tgt_BD=None if batch.ref_tgt_BD is None else tensor(batch.ref_tgt_BD),
    )


def _loss(
    objective: DynamicObjective,
    meta: BatchMeta,
    progress: float,
    look: Callable[[Tensor], None],
    unit_ND: Tensor,
) -> LossOutput:
    look(unit_ND.detach())
    src_BD, tgt_BD = unit_ND.chunk(2)
    output: LossOutput = objective(src_BD, tgt_BD, meta, progress)
    return output


def _update(learner: Learner, rate: float, config: TrainingConfig) -> float:
    norm = learner.engine.step(rate)
    if learner.discriminator is not None and math.isfinite(norm):
        GradientMean(learner.objective.parameters())()
        set_rate(learner.discriminator, discriminator_rate(rate, config))
        learner.discriminator.step()
        learner.discriminator.zero_grad(set_to_none=True)
    return norm


def _forget(learner: Learner, means: list[Tensor]) -> None:
    """Of a step that is left out nothing stays: neither gradients nor what the running means took in."""
    if learner.discriminator is not None:
        learner.discriminator.zero_grad(set_to_none=True)
    for buffer, before in zip(learner.objective.buffers(), means, strict=True):
        buffer.copy_(before)
