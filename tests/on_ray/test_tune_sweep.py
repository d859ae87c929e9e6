from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tuning.space import Space
from tuning.sweep import Objective, Report, sweep
from xalign_dist.config import load_config
from xalign_dist.errors import OutputError

pytestmark = pytest.mark.ray


def _space(**changes: object) -> Space:
    return Space.model_validate(
        {
            "metric": "accuracy",
            "max_concurrent": 2,
            "fixed": {"training.steps": 20},
            "parameters": {"training.batch_pairs": {"grid": [8, 16, 32]}},
            **changes,
        }
    )


def _objective(folder: Path) -> Objective:
    """Best at 16 pairs; leaves a mark per call; fails at 32 while the file `broken` lies there.

    A nested function, because Ray's workers cannot import this test module.
    """

    started_in = str(Path.cwd())

    def run(overrides: Sequence[str], out: str, report: Report) -> Mapping[str, float]:
        settings = dict(item.split("=") for item in overrides)
        assert settings["training.steps"] == "20"
        assert str(Path.cwd()) == started_in, "relative corpus paths must go on working"
        pairs = int(settings["training.batch_pairs"])
        mark = folder / f"{pairs}-{Path(out).name}"
        mark.write_text(("x" + mark.read_text()) if mark.exists() else "x")
        if pairs == 32 and (folder / "broken").exists():
            raise RuntimeError("no memory for 32 pairs")
        report({"accuracy": 0.1})
        return {"accuracy": 1.0 - abs(pairs - 16) / 100, "loss": 0.5}

    return run


@pytest.mark.usefixtures("ray_session")
def test_sweep_ranks_survives_a_failed_trial_and_resumes_only_it(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "broken").touch()
    out = tmp_path / "sweep"

    first = sweep(_space(), _objective(marks), str(out), base={"seed": 5})
    assert [t.parameters["training.batch_pairs"] for t in first] == [16, 8, 32]
    assert [t.value for t in first] == [1.0, 0.92, None]
    assert "no memory for 32 pairs" in first[2].error
    assert first[0].metrics["loss"] == 0.5
    best = load_config(out / "best.yaml")
    assert (best.training.batch_pairs, best.training.steps, best.seed) == (16, 20, 5)

    (marks / "broken").unlink()
    second = sweep(_space(), _objective(marks), str(out), base={"seed": 5})
    assert [t.value for t in second] == [1.0, 0.92, pytest.approx(0.84)]
    calls = {p.name.split("-")[0]: p.read_text() for p in marks.iterdir()}
    assert calls == {"8": "x", "16": "x", "32": "xx"}

    with pytest.raises(OutputError, match="another space or seed"):
        sweep(_space(samples=2), _objective(marks), str(out))


@pytest.mark.usefixtures("ray_session")
def test_early_stopping_ends_the_weak_trial(tmp_path: Path) -> None:
    def objective(overrides: Sequence[str], out: str, report: Report) -> Mapping[str, float]:
        pairs = int(overrides[-1].split("=")[1])
        for step in range(1, 8):
            report({"accuracy": pairs / 100 + step / 1000, "step": step})
        return {"accuracy": pairs / 100 + 0.1, "step": 99}

    space = _space(scheduler="asha", asha_reports=8, asha_keep=2, max_concurrent=1)
    # Grid order: the best comes first, so that both later ones fall below it at the first rung.
    parameters = {"training.batch_pairs": {"grid": [32, 16, 8]}}
    space = Space.model_validate({**space.model_dump(exclude={"parameters"}), "parameters": parameters})
    trials = sweep(space, objective, str(tmp_path / "asha"), seed=1)
    steps = {t.parameters["training.batch_pairs"]: t.metrics["step"] for t in trials}
    assert steps[32] == 99
    assert steps[16] == steps[8] == 1
