"""`xalign sweep` says at once, before any Ray, what would else come to light after the first trial."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from xalign_dist import cli

CONFIG = {"corpora": [{"path": "pairs.jsonl", "source": "tiny"}], "rounds": {"count": 1}}
RATE = {"training.learning_rate": {"grid": [0.00001, 0.001]}}
Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """What the command says of a space, when it ends with the exit code of a user's mistake."""
    monkeypatch.chdir(tmp_path)

    def call(space: dict[str, Any], *more: str, config: dict[str, Any] = CONFIG) -> str:
        Path("c.yaml").write_text(yaml.safe_dump(config))
        Path("space.yaml").write_text(yaml.safe_dump(space))
        monkeypatch.setattr(sys, "argv", ["xalign", "sweep", "c.yaml", "space.yaml", "--out", "found", *more])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = capsys.readouterr()
        said = " ".join((shown.out + shown.err).split())
        assert end.value.code == 2, said
        assert "remedy:" in said
        assert "Traceback" not in said
        assert not ray.is_initialized()
        assert not Path("found").exists(), "nothing half-started is left"
        return said

    return call


def test_a_metric_that_is_never_reported(refused: Refused) -> None:
    said = refused({"metric": "bleu", "parameters": RATE})
    assert "metric bleu is never reported: a trial reports dev_accuracy" in said
    assert "set metric: dev_accuracy in the space" in said


def test_early_stopping_with_one_report(refused: Refused) -> None:
    said = refused({"parameters": RATE}, "--scheduler", "asha")
    assert "asha compares trials after each round, and rounds.count is 1" in said


def test_nothing_to_train_on(refused: Refused) -> None:
    said = refused({"parameters": RATE}, config={"rounds": {"count": 1}})
    assert "nothing to train on" in said


def test_a_budget_in_no_known_unit(refused: Refused) -> None:
    assert "budget" in refused({"parameters": RATE}, "--budget", "20h")
