"""Runs that go wrong: gradients that are not finite, learning rates that diverge."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_world import tiny_job

from xalign_dist.config import ObjectiveConfig, TrainingConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.errors import TrainingError
from xalign_dist.training import StepRecord, TorchEngine, TrainJob, run_training
from xalign_dist.training.divergence import DivergenceGuard
from xalign_dist.training.finite import PATIENCE


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
