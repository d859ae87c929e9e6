"""Before the first step: an estimate of the memory, a dry run that leaves no trace, faults with a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from preflight_memory import peak
from training_world import tiny_job

from xalign_dist.batches import read_step
from xalign_dist.batches.batch import BatchStream
from xalign_dist.errors import TrainingError
from xalign_dist.objective import DynamicObjective
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.training import StepRecord, TorchEngine, TrainJob, run_training
from xalign_dist.training.encode import plan_chunks
from xalign_dist.training.loop import Learner, train_steps
from xalign_dist.training.memory import estimate_memory
from xalign_dist.training.optimizer import build_discriminator_optimizer
from xalign_dist.training.rehearsal import longest_step, rehearse
from xalign_dist.training.run import batch_plan, load_trainee

CPU = torch.device("cpu")


def learner_of(job: TrainJob) -> Learner:
    engine = TorchEngine(load_trainee(job, CPU), job.training)
    objective = DynamicObjective(job.objective, engine.encoder.dim, 3, job.seed)
    return Learner(engine, objective, build_discriminator_optimizer(objective, job.training))


@pytest.mark.parametrize("chunk", [None, 5])
def test_a_dry_run_leaves_no_trace(tmp_path: Path, chunk: int | None) -> None:
    job = tiny_job(tmp_path, training={"chunk_pairs": chunk})
    training_set = TrainingSet.open(job.training_set)
    plan = batch_plan(job, training_set)
    curves = []
    for dry_runs in (0, 2):
        learner = learner_of(job)
        random = torch.get_rng_state()
        for step in range(dry_runs):
            rehearse(learner, read_step(plan, training_set, step, 0, 1), job.training, 8, job.seed)
        assert torch.equal(torch.get_rng_state(), random)
        stream = BatchStream(training_set, plan, 0, 1, 0, 8)
        records = [
            r.trace | {"norm": r.gradient_norm} for r in train_steps(learner, stream, job.training, 8, 3)
        ]
        curves.append((records, learner.engine.state(), learner.objective.state_dict()))
    (one, weights, means), (two, other_weights, other_means) = curves
    assert one == two
    for a, b in ((weights.parameters, other_weights.parameters), (means, other_means)):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_longest_batch_is_found(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    training_set = TrainingSet.open(job.training_set)
    plan = batch_plan(job, training_set)
    longest = np.maximum(training_set.src_length_N, training_set.tgt_length_N)
    total = training_set.src_length_N + training_set.tgt_length_N
    steps = range(2, 8)
    best = longest_step(plan, training_set, steps, cached=True)
    assert longest[plan.batch(best)].max() == max(longest[plan.batch(s)].max() for s in steps)
    best = longest_step(plan, training_set, steps, cached=False)
    assert total[plan.batch(best)].sum() == max(total[plan.batch(s)].sum() for s in steps)
    # Ten steps an epoch, 120 pairs in batches of 12: later epochs are not searched.
    assert longest_step(plan, training_set, range(1000), cached=False) < plan.steps_per_epoch == 10


class Hungry(TorchEngine):
    """Asks torch's own allocator for a petabyte as soon as more than 8 texts are encoded with gradient."""

    def encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and len(ids) > 8:
            torch.empty(2**50, dtype=torch.uint8)
        return super().encode(ids, mask)


def test_out_of_memory_shows_before_step_1_and_what_it_says_helps(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    seen: list[StepRecord] = []
    with pytest.raises(TrainingError) as caught:
        run_training(job, Hungry, report=seen.append)
    assert seen == []
    assert not (tmp_path / "work" / "telemetry.jsonl").exists()
    assert "dry run of the longest batch" in caught.value.problem
    assert "out of memory" in caught.value.problem
    for setting in (
        "training.chunk_pairs=6 or less",
        "encoder.gradient_checkpointing=true",
        "training.deepspeed.zero_stage (now 0)",
        "training.batch_pairs (now 12)",
    ):
        assert setting in caught.value.remedy
    smaller = tiny_job(tmp_path, training={"chunk_pairs": 4})
    run_training(smaller, Hungry, report=seen.append)
    assert len(seen) == 8


class HungryUpdate(TorchEngine):
    """Asks for a petabyte when it updates."""

    def step(self, rate: float) -> float:
        torch.empty(2**50, dtype=torch.uint8)
        return super().step(rate)


def test_out_of_memory_in_the_update_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"(?s)^step 1: out of memory .*training\.chunk_pairs=6 or less"):
        run_training(tiny_job(tmp_path), HungryUpdate)


class Wrong(TorchEngine):
    def encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")


def test_another_fault_is_not_taken_for_memory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run_training(tiny_job(tmp_path), Wrong)


def saved_bytes(engine: TorchEngine, chunks: list[Any]) -> int:
    """What the graphs of ``chunks`` hold together, weights aside; tensors counted once."""
    weights = {p.untyped_storage().data_ptr() for p in engine.encoder.parameters()}
    held: dict[int, torch.Tensor] = {}

    def pack(value: torch.Tensor) -> torch.Tensor:
        if value.untyped_storage().data_ptr() not in weights:
            held[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        graphs = [engine.encode(c.ids, c.mask) for c in chunks]
    total = sum(value.untyped_storage().nbytes() for value in held.values())
    del graphs
    return total


def moment_bytes(engine: TorchEngine) -> int:
    moments = [v for s in engine._optimizer.state.values() for k, v in s.items() if k != "step"]
    return sum(v.untyped_storage().nbytes() for v in moments)


@pytest.mark.parametrize("chunk", [None, 6])
def test_the_estimate_is_what_is_there(tmp_path: Path, chunk: int | None) -> None:
    job = tiny_job(tmp_path, training={"batch_pairs": 40, "chunk_pairs": chunk})
    training_set = TrainingSet.open(job.training_set)
    batch = read_step(batch_plan(job, training_set), training_set, 0, 0, 1)
    learner = learner_of(job)
    engine, encoder = learner.engine, learner.engine.encoder
    assert isinstance(engine, TorchEngine)
    chunks = plan_chunks(batch, encoder, job.training, CPU)
    found = estimate_memory(encoder, chunks, job.training, None, 1)
    # Moments are there before the first step, for the dry run to run beside.
    assert moment_bytes(engine) == found.optimizer > 0
    stream = BatchStream(training_set, batch_plan(job, training_set), 0, 1, 0, 1)
    list(train_steps(learner, stream, job.training, 8, 3))
    weights = list(encoder.parameters())
    assert found.parameters == sum(p.untyped_storage().nbytes() for p in weights)
    assert found.gradients == sum(p.numel() * 4 for p in weights)
    assert found.optimizer == moment_bytes(engine)
    largest = max(chunks.chunks, key=lambda c: c.ids.numel())
    really = saved_bytes(engine, [largest] if chunk else chunks.chunks)
    assert found.activations == pytest.approx(really, rel=0.1)
    assert found.total == sum(vars(found).values())
    assert f"optimizer {found.optimizer / 2**10:.3g} KiB" in str(found)


def test_the_estimate_follows_stage_workers_and_optimizer(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    training_set = TrainingSet.open(job.training_set)
    batch = read_step(batch_plan(job, training_set), training_set, 0, 0, 1)
    encoder = load_trainee(job, CPU)
    count = sum(p.numel() for p in encoder.parameters())
    chunks = plan_chunks(batch, encoder, job.training, CPU)

    def state(world: int, **changes: Any) -> tuple[int, int, int]:
        config = job.training.model_validate(job.training.model_dump() | changes)
        e = estimate_memory(encoder, chunks, config, None, world)
        return e.parameters, e.gradients, e.optimizer

    def share(values: int) -> int:
        return -(-values // 4)

    full = 4 * count
    assert state(1) == (full, full, 2 * full)
    # Without ZeRO the gradients of several workers are averaged in a buffer of their size.
    assert state(4) == (full, 2 * full, 2 * full)
    assert state(4, optimizer="sgd") == (full, 2 * full, 0)
    assert state(4, deepspeed={"zero_stage": 1}) == (full, full, share(3 * full))
    assert state(4, deepspeed={"zero_stage": 2}) == (full, share(full), share(3 * full))
    assert state(4, deepspeed={"zero_stage": 3}) == (share(full), share(full), share(3 * full))
    assert state(4, deepspeed={"zero_stage": 2, "offload": "cpu"}) == (full, share(full), 0)
    for p in encoder.backbone.parameters():
        p.requires_grad_(False)
    encoder.head = torch.nn.Sequential(torch.nn.Linear(32, 32))
    assert state(1) == (full + 4 * 1056, 4 * 1056, 8 * 1056)


def test_the_estimate_is_said_first(tmp_path: Path) -> None:
    said: list[str] = []
    run_training(tiny_job(tmp_path), report=lambda r: said.append("step"), say=said.append)
    assert said[0].startswith("memory per worker about ")
    assert said[1:] == ["step"] * 8


@pytest.mark.faults
def test_memory_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    small, large = peak(tmp_path, 512), peak(tmp_path, 8192)
    assert small > 40e6
    assert large < 1.15 * small
