"""Cached gradients against plain ones in one process: dropout, uneven chunks, bf16, and the exact graph."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_world import tiny_job

from xalign_dist.batches.batch import Batch, make_batch
from xalign_dist.objective import DynamicObjective, LossOutput
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.training import TorchEngine, TrainJob
from xalign_dist.training.cached import cached_gradient, plain_gradient
from xalign_dist.training.encode import plan_chunks
from xalign_dist.training.engine import trainable
from xalign_dist.training.loop import batch_meta
from xalign_dist.training.run import load_trainee
from xalign_dist.training.seeding import seed_dropout

CPU = torch.device("cpu")


def always(out: LossOutput, gradient: Tensor) -> bool:
    return True


class World:
    """One batch of 22 pairs, of which chunks of 8 leave 6 at the end."""

    def __init__(self, home: Path, **training: Any) -> None:
        self.job: TrainJob = tiny_job(home, training={"chunk_pairs": 8, **training})
        training_set = TrainingSet.open(self.job.training_set)
        self.batch: Batch = make_batch(training_set, np.arange(22), 0, 0)

    def gradients(self, form: Any, seed: int = 9) -> tuple[float, dict[str, Tensor]]:
        engine = TorchEngine(load_trainee(self.job, CPU), self.job.training)
        objective = DynamicObjective(self.job.objective, engine.encoder.dim, 3)
        meta = batch_meta(self.batch, CPU)

        def loss_of(unit_ND: Tensor) -> LossOutput:
            src_BD, tgt_BD = unit_ND.chunk(2)
            output: LossOutput = objective(src_BD, tgt_BD, meta, 0.5)
            return output

        plan = plan_chunks(self.batch, engine.encoder, self.job.training, CPU)
        assert [len(c.rows_R) for c in plan.chunks] == [16, 16, 12]
        out, accepted = form(engine, plan, loss_of, partial(seed_dropout, seed, 0, 0), always)
        assert accepted
        grads = {n: p.grad.clone() for n, p in trainable(engine.encoder).items() if p.grad is not None}
        assert len(grads) > 30
        return out.loss.item(), grads


def difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    wrong = sum(float((one[n] - two[n]).square().sum()) for n in one)
    return float((wrong / sum(float(two[n].square().sum()) for n in two)) ** 0.5)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 1e-2)])
def test_cached_is_plain_with_dropout_replayed(tmp_path: Path, precision: str, tolerance: float) -> None:
    world = World(tmp_path, precision=precision)
    loss, grads = world.gradients(plain_gradient)
    cached_loss, cached = world.gradients(cached_gradient)
    assert cached_loss == pytest.approx(loss, rel=1e-6)
    assert difference(cached, grads) < tolerance
    # Another dropout mask is far outside the tolerance: the comparison above would have seen it.
    _, other = world.gradients(cached_gradient, seed=10)
    assert difference(other, grads) > 100 * 1e-6


def test_plain_is_one_graph_from_texts_to_loss(tmp_path: Path) -> None:
    world = World(tmp_path)
    _, grads = world.gradients(plain_gradient)
    engine = TorchEngine(load_trainee(world.job, CPU), world.job.training)
    objective = DynamicObjective(world.job.objective, engine.encoder.dim, 3)
    plan = plan_chunks(world.batch, engine.encoder, world.job.training, CPU)
    parts = []
    for number, chunk in enumerate(plan.chunks):
        seed_dropout(9, 0, 0, number)
        parts.append(engine.encode(chunk.ids, chunk.mask))
    unit_ND = plan.restore(parts)
    objective(*unit_ND.chunk(2), batch_meta(world.batch, CPU), 0.5).loss.backward()
    whole = {n: p.grad for n, p in trainable(engine.encoder).items() if p.grad is not None}
    assert difference(grads, whole) < 1e-6
