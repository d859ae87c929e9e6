"""Runs that go wrong: gradients that are not finite, learning rates that diverge."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_world import pairs, tiny_job

from xalign_dist.batches import read_step
from xalign_dist.batches.batch import BatchStream
from xalign_dist.config import ObjectiveConfig, TrainingConfig
from xalign_dist.encoder import Encoder, load_encoder
from xalign_dist.errors import TrainingError
from xalign_dist.objective import DynamicObjective
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.training import StepRecord, TorchEngine, TrainJob, run_training
from xalign_dist.training.checkpoint import Checkpoints
from xalign_dist.training.divergence import DivergenceGuard
from xalign_dist.training.finite import PATIENCE
from xalign_dist.training.loop import Learner, train_steps
from xalign_dist.training.optimizer import build_discriminator_optimizer
from xalign_dist.training.run import batch_plan, load_trainee


class Overflowing(TorchEngine):
    """An engine whose parameter gradients are infinite from the third step on, though the loss is finite."""

    steps = 0
    faulty = range(3, 4)

    def step(self, rate: float) -> float:
        Overflowing.steps += 1
        if Overflowing.steps in Overflowing.faulty:
            next(self.encoder.parameters()).grad *= float("inf")  # type: ignore[misc]
        return super().step(rate)


@pytest.fixture(autouse=True)
def from_the_start() -> None:
    Overflowing.steps, Overflowing.faulty = 0, range(3, 4)


def skipping(job: TrainJob) -> TrainJob:
    return dataclasses.replace(job, training=job.training.model_copy(update={"non_finite": "skip"}))


def test_an_infinite_gradient_behind_a_finite_loss_stops(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    with pytest.raises(TrainingError, match=r"step 3: the gradient's norm is (inf|nan).*training rows \d+, "):
        run_training(job, Overflowing)


def test_or_it_is_left_out_and_the_weights_stay_finite(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = skipping(tiny_job(tmp_path))
    records: list[StepRecord] = []
    result = run_training(job, Overflowing, report=records.append)
    assert [r.step for r in records if r.skipped] == [3]
    assert caplog.text.count("step skipped") == 1
    assert result.skipped == 1
    assert all(np.isfinite(r.loss) for r in records)
    assert all(torch.isfinite(v).all() for v in load_encoder(job.out, device="cpu").state_dict().values())


def test_a_run_that_only_skips_ends(tmp_path: Path) -> None:
    job = skipping(tiny_job(tmp_path, stop_step=200, total_steps=200))
    Overflowing.faulty = range(2, 1000)
    with pytest.raises(TrainingError, match=rf"step {PATIENCE + 1}: .* {PATIENCE} steps in a row"):
        run_training(job, Overflowing)


class Blind(TorchEngine):
    """An engine whose encoder has no finite vector for one word."""

    word = ""

    def __init__(self, encoder: Encoder, config: TrainingConfig) -> None:
        super().__init__(encoder, config)
        ids, _ = encoder.collate(encoder.tokenize([Blind.word]))
        with torch.no_grad():
            encoder.backbone.get_input_embeddings().weight[ids[0, 1]] = float("nan")


def first_rows(job: TrainJob) -> list[int]:
    training_set = TrainingSet.open(job.training_set)
    rows: list[int] = read_step(batch_plan(job, training_set), training_set, 0, 0, 1).rows_B.tolist()
    return rows


def test_the_rows_that_are_named_are_those_without_a_finite_vector(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    texts, rows = pairs()["src"].to_pylist(), first_rows(job)
    Blind.word = texts[rows[-1]].split()[0]
    wrong = [row for row in rows if Blind.word in texts[row].split()]
    assert len(wrong) < 8
    listed = ", ".join(map(str, wrong))
    with pytest.raises(TrainingError, match=rf"step 1: loss nan .*rows {listed}: no finite vector\)"):
        run_training(job, Blind)


@pytest.mark.parametrize("kind", [Blind, Overflowing])
def test_a_step_that_is_left_out_moves_no_running_mean_and_no_discriminator(
    tmp_path: Path, kind: type[TorchEngine]
) -> None:
    job = skipping(tiny_job(tmp_path))
    Blind.word = pairs()["src"].to_pylist()[first_rows(job)[0]].split()[0]
    training_set = TrainingSet.open(job.training_set)
    engine = kind(load_trainee(job, torch.device("cpu")), job.training)
    objective = DynamicObjective(job.objective, engine.encoder.dim, 3, job.seed)
    discriminator = build_discriminator_optimizer(objective, job.training)
    stream = BatchStream(training_set, batch_plan(job, training_set), 0, 1, 0, 8)
    before, kinds = {k: v.clone() for k, v in objective.state_dict().items()}, set()
    assert "accuracy.total" in before
    assert "adversary.output.weight" in before
    for record in train_steps(Learner(engine, objective, discriminator), stream, job.training, 8, 3):
        now = {k: v.clone() for k, v in objective.state_dict().items()}
        still = all(torch.equal(now[name], before[name]) for name in now)
        assert still is record.skipped, record.step
        before = now
        kinds.add(record.skipped)
    assert kinds == {True, False}


# Taught first at a rate that learns, so that there is something to lose; then at one that is too high.
def taught(home: Path) -> TrainJob:
    settings = {"batch_pairs": 24, "learning_rate": 1e-2, "checkpoint_every": 1000}
    objective = ObjectiveConfig.model_validate({"regulariser": {"enabled": False}})
    job = tiny_job(home, stop_step=60, total_steps=60, training=settings, objective=objective)
    run_training(job)
    return job


def again(job: TrainJob, rate: float, **settings: Any) -> TrainJob:
    home = Path(job.work).parent
    training = job.training.model_copy(update={"learning_rate": rate, **settings})
    return dataclasses.replace(
        job, model=job.out, training=training, work=str(home / f"w{rate}"), out=str(home / f"o{rate}")
    )


def test_a_learning_rate_that_diverges_is_detected_and_explained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = taught(tmp_path)
    run_training(again(job, 1e-2))
    with pytest.raises(
        TrainingError,
        match=r"(?s)step \d\d: training diverges: .*accuracy 0\.\d+ \(best 0\.[5-9].*lower training",
    ):
        run_training(again(job, 0.5))
    assert "diverges" not in caplog.text
    with caplog.at_level(logging.WARNING):
        run_training(again(job, 0.5, divergence="warn"))
    assert caplog.text.count("training diverges") == 1


def judge(
    losses: list[float], accuracies: list[float], stages: list[float] | None = None, **settings: Any
) -> int | None:
    """The step at which the guard stops, if it does."""
    guard = DivergenceGuard(TrainingConfig(batch_pairs=64, **settings))
    stages = stages or [1.0] * len(losses)
    for step, (loss, accuracy, stage) in enumerate(zip(losses, accuracies, stages, strict=True), start=1):
        try:
            guard.check(step, loss, 1.0, 1e-3, {"accuracy": accuracy, "lambda_C": stage})
        except TrainingError:
            return step
    return None


def test_what_counts_as_divergence() -> None:
    flat = [0.9] * 100
    # Half of a window far above the best: twice it and one nat.
    assert judge([0.5] * 50 + [2.1] * 50, flat) == 61
    assert judge([0.5] * 50 + [1.9] * 50, flat) is None
    # A temperature that sharpens, a few hard batches, a start from nothing: no divergence.
    assert judge(list(np.linspace(0.5, 1.0, 100)), flat) is None
    assert judge([0.5] * 50 + [9.0] * 9 + [0.5] * 41, flat) is None
    assert judge([4.2] * 100, [1 / 64] * 100) is None
    # All that was known is lost, and the loss is higher than it was.
    assert judge([1.1] * 10 + [2.0] * 90, [0.9] * 10 + [0.1] * 90) is not None
    assert judge([1.1] * 10 + [1.0] * 90, [0.9] * 10 + [0.1] * 90) is None
    assert judge([0.5] * 50 + [9.0] * 50, flat, divergence="ignore") is None
    # After the adversarial warm-up the loss is another one.
    assert judge([0.5] * 50 + [9.0] * 50, flat, [0.0] * 50 + [1.0] * 50) is None


def test_a_diverged_training_is_no_success_when_the_command_is_run_again(tmp_path: Path) -> None:
    job = again(taught(tmp_path), 0.5, checkpoint_every=2)
    seen: list[list[int]] = []
    for _ in range(2):
        steps: list[int] = []
        with pytest.raises(TrainingError, match="training diverges"):
            run_training(job, report=lambda r, steps=steps: steps.append(r.step))
        seen.append(steps)
    first, second = seen
    assert first[0] == 1
    assert second[-1:] in ([], first[-1:])  # no step beyond the one that was judged
    assert len(second) < 2
    assert not Path(job.out).exists()


def test_the_guard_goes_on_from_its_state_as_if_it_had_not_stopped() -> None:
    config = TrainingConfig(batch_pairs=64, divergence="stop")
    losses = [0.5] * 50 + [2.1] * 50
    for stopped in (3, 30, 55, 60):
        guard = DivergenceGuard(config)
        for step, loss in enumerate(losses, start=1):
            if step == stopped:
                state = json.loads(json.dumps(guard.state()))
                guard = DivergenceGuard(config)
                guard.load(state)
            try:
                guard.check(step, loss, 1.0, 1e-3, {"accuracy": 0.9, "lambda_C": 1.0})
            except TrainingError:
                break
        assert step == 61, stopped


def test_a_round_that_begins_judges_by_its_own_pairs(tmp_path: Path) -> None:
    job = taught(tmp_path)
    state = Checkpoints.load(job.work).figures["divergence"]
    assert state["steps"] == 60
    assert len(state["losses"]) == 20
    following = dataclasses.replace(
        job,
        **{"start_step": 60, "stop_step": 61, "total_steps": 61, "init_checkpoint": job.work},
        **{"work": str(tmp_path / "next"), "out": str(tmp_path / "next.out")},
    )
    run_training(following)
    assert Checkpoints.load(following.work).figures["divergence"]["steps"] == 1
