"""What a loss cost, on clocks worked out by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xalign_dist.runtime.lost_time import Begun, TrainingTime, lost


def heard(steps: list[tuple[str, int, float]]) -> list[str]:
    said: list[str] = []
    time = TrainingTime(said.append)
    for attempt, step, at in steps:
        time.heard(attempt, step, at)
    return said


def text(last: int, checkpoint: int, steps: int, seconds: str, still: str) -> str:
    return (
        f"training was interrupted after step {last} and goes on after step {checkpoint}: {steps} steps are "
        f"done again, {seconds} s are lost, {still} s of them without training"
    )


def test_a_training_without_restart_loses_nothing() -> None:
    assert heard([("a", step, float(step)) for step in range(101, 200)]) == []


def test_each_restart_costs_the_steps_since_its_checkpoint() -> None:
    first = [("a", step, float(step)) for step in range(1, 15)]
    # From the checkpoint of step 10, done at 10 s; from that of 12, done again at 32 s; from 12 once more.
    second = [("b", step, 19.0 + step) for step in range(11, 18)]
    third = [("c", step, 37.0 + step) for step in range(13, 15)]
    fourth = [("d", 13, 70.0)]
    assert heard(first + second + third + fourth) == [
        text(14, 10, 4, "20.0", "16.0"),
        text(17, 12, 5, "19.0", "14.0"),
        text(14, 12, 2, "39.0", "19.0"),
    ]


def test_a_slice_that_starts_later_and_has_no_checkpoint_yet() -> None:
    assert heard([("a", 101, 5.0), ("a", 102, 6.0), ("b", 101, 10.0)]) == [text(102, 100, 2, "5.0", "4.0")]


def test_a_checkpoint_at_the_last_step_costs_no_step() -> None:
    # Of step 3, which the driver never heard of, the checkpoint is there.
    assert heard([("a", 1, 1.0), ("a", 2, 2.0), ("b", 4, 6.0)]) == [text(2, 3, 0, "4.0", "4.0")]


def test_a_loss_is_said_and_logged_with_its_figures(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    lost("a shard", said.append, seconds=2)
    lost("a block", seconds=3)
    assert said == ["a shard"]
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "a shard"), ("WARNING", "a block"),
    ]  # fmt: skip
    assert caplog.records[0].__dict__["figures"] == {"event": "lost", "seconds": 2}


def test_a_piece_begun_twice_was_lost_once(tmp_path: Path) -> None:
    begun, other = Begun(tmp_path), Begun(tmp_path)
    assert begun.begin(3) == 0
    mark = begun.folder / "3"
    os.utime(mark, (mark.stat().st_atime, mark.stat().st_mtime - 7))
    assert begun.begin(3) == pytest.approx(7, abs=1)
    assert begun.begin(4) == other.begin(3) == 0
    begun.end(3)
    assert begun.begin(3) == 0, "what ended is not lost"
    begun.close()
    other.close()
    assert list(tmp_path.iterdir()) == []
