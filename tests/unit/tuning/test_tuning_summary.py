from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuning.space import Space
from tuning.summary import Trial, best_first, write_summary
from xalign_dist.config import load_config
from xalign_dist.errors import StageError

SPACE = Space.model_validate(
    {
        "metric": "acc",
        "fixed": {"objective.adversary.enabled": False},
        "parameters": {"training.learning_rate": {"loguniform": [1e-5, 1e-3]}},
    }
)


def _trial(rate: float, value: float | None, error: str = "") -> Trial:
    return Trial({"training.learning_rate": rate}, value, {}, 1.0, error)


def test_best_is_a_config_that_loads(tmp_path: Path) -> None:
    trials = [_trial(1e-4, 0.5), _trial(2e-5, None, "out | of memory"), _trial(3e-5, 0.75)]
    ranked = write_summary(trials, SPACE, {"seed": 9}, tmp_path)
    assert [t.value for t in ranked] == [0.75, 0.5, None]
    config = load_config(tmp_path / "best.yaml")
    assert config.training.learning_rate == 3e-5
    assert config.objective.adversary.enabled is False
    assert config.seed == 9
    rows = json.loads((tmp_path / "trials.json").read_text("utf-8"))["trials"]
    assert [r["value"] for r in rows] == [0.75, 0.5, None]
    lines = (tmp_path / "trials.md").read_text("utf-8").splitlines()
    assert lines[0] == "| acc | training.learning_rate | seconds | note |"
    assert lines[2] == "| 0.7500 | 3e-05 | 1 |  |"
    assert lines[4] == "| - | 2e-05 | 1 | out / of memory |"


def test_min_puts_the_least_first() -> None:
    ranked = best_first([_trial(1, 0.5), _trial(2, None), _trial(3, 0.25)], "min")
    assert [t.value for t in ranked] == [0.25, 0.5, None]


def test_no_value_at_all_says_why(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"no trial of 2 .* acc: broken pipe"):
        write_summary([_trial(1, None), _trial(2, None, "broken pipe")], SPACE, None, tmp_path)
    assert (tmp_path / "trials.json").exists()
    assert not (tmp_path / "best.yaml").exists()
