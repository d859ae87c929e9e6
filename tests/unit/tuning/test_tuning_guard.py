from __future__ import annotations

from pathlib import Path

import pytest
from ray.tune.trainable.metadata import _TrainingRunMetadata

from tuning.guard import FIRST_FAILURES, Guard, arm, budget_hours, read_state
from xalign_dist.errors import ConfigError


def test_budget_in_hours_of_what_a_trial_uses() -> None:
    assert budget_hours("20gpuh", 0.25, 4) == (20.0, 0.25)
    assert budget_hours("3.5cpuh", 0.25, 4) == (3.5, 4)
    assert budget_hours(None, 0, 2) == (None, 2)


def test_gpu_hours_without_a_gpu_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"20gpuh, but the cluster has no GPU\n.*20cpuh"):
        budget_hours("20gpuh", 0, 2)


class _Trial:
    def __init__(self, status: str, value: float | None = None) -> None:
        self.status, self.last_result = status, {"acc": value}
        self.temporary_state = type("State", (), {"ray_actor": None})
        self.run_metadata = _TrainingRunMetadata()
        for step in range(3):
            self.run_metadata.update_metric("acc", value or 0.0, step=step + 1)


def test_running_trials_are_charged_and_the_budget_outlives_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "guard.json")
    arm(path, 1.0, rate=2.0)
    now = 0.0
    monkeypatch.setattr("tuning.guard.time.monotonic", lambda: now)
    callback, stopper = Guard(path, "acc"), Guard(path, "acc")
    trials = [_Trial("RUNNING"), _Trial("RUNNING"), _Trial("PENDING")]
    for now in (100.0, 110.0, 1000.0):  # noqa: B007 - the clock reads it
        callback.on_step_end(0, trials)  # type: ignore[arg-type]
    # 10 s, then a pause that counts as 30 s at most; two trials of two units.
    assert callback.state.spent == pytest.approx((10 + 30) * 2 * 2 / 3600)
    assert not stopper.stop_all()
    monkeypatch.undo()
    callback.on_experiment_end([])
    later = arm(path, 0.04, rate=2.0)
    assert later.spent == pytest.approx(160 / 3600)
    assert later.spent_all()


def test_first_failures_end_it_unless_one_succeeded(tmp_path: Path) -> None:
    for name, values, stops in [
        ("a", [float("nan")] * FIRST_FAILURES, True),
        ("b", [None] * FIRST_FAILURES, True),
        ("c", [0.5] + [float("nan")] * FIRST_FAILURES, False),
        ("d", [float("nan")] * (FIRST_FAILURES - 1), False),
    ]:
        path = str(tmp_path / name)
        arm(path, None, 1.0)
        guard = Guard(path, "acc")
        for value in values:
            guard.on_trial_complete(0, [], _Trial("TERMINATED", value))  # type: ignore[arg-type]
        assert guard.stop_all() is stops, name
        assert read_state(path).failed == sum(v is None or v != v for v in values)


def test_of_a_trial_that_ended_no_windows_are_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "guard.json")
    arm(path, None, 1.0)
    trial = _Trial("TERMINATED", 0.5)
    assert trial.run_metadata.metric_n_steps["acc"]
    Guard(path, "acc").on_trial_complete(0, [], trial)  # type: ignore[arg-type]
    assert not trial.run_metadata.metric_n_steps
    assert trial.last_result == {"acc": 0.5}


def test_after_a_stop_tune_is_asked_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "guard.json")
    assert arm(path, None, 1.0).epoch == 0
    assert arm(path, None, 1.0).epoch == 0, "a killed driver goes on in the same books"
    assert arm(path, None, 1.0, again=True).epoch == 1
    guard = Guard(path, "acc")
    for _ in range(FIRST_FAILURES):
        guard.on_trial_error(0, [], _Trial("ERROR"))  # type: ignore[arg-type]
    assert guard.stop_all()
    guard.on_experiment_end([])
    assert arm(path, None, 1.0).epoch == 2
