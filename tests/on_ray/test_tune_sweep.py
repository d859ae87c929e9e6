from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tuning.finals import DEFAULT, contest
from tuning.space import Space
from tuning.summary import Trial, best_first, write_summary
from tuning.sweep import Limits, Sweep
from xalign_dist.config import load_config
from xalign_dist.errors import OutputError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

PAIRS = "training.batch_pairs"
Report = Callable[[Mapping[str, float]], None]


def _space(**changes: object) -> Space:
    return Space.model_validate(
        {
            "metric": "accuracy",
            "fixed": {"training.steps": 20},
            "parameters": {PAIRS: {"grid": [8, 16, 32]}},
            **changes,
        }
    )


def _objective(folder: Path) -> Any:
    """Best at 16 pairs; leaves a mark per call; fails at 32 while the file `broken` lies there.

    A nested function, because Ray's workers cannot import this test module.
    """

    started_in = str(Path.cwd())

    def run(overrides: Sequence[str], out: str, report: Report) -> Mapping[str, float]:
        settings = dict(item.split("=") for item in overrides)
        assert settings["training.steps"] == "20"
        assert str(Path.cwd()) == started_in, "relative corpus paths must go on working"
        pairs = int(settings.get("training.batch_pairs", 64))
        mark = folder / f"{pairs}-{settings.get('seed', '0')}-{Path(out).name}"
        mark.write_text(("x" + mark.read_text()) if mark.exists() else "x")
        if pairs == 32 and (folder / "broken").exists():
            raise RuntimeError("no memory for 32 pairs")
        report({"accuracy": 0.1})
        return {"accuracy": 1.0 - abs(pairs - 16) / 100, "loss": 0.5}

    return run


def _calls(marks: Path) -> dict[str, str]:
    return {"-".join(p.name.split("-")[:2]): p.read_text() for p in marks.iterdir()}


def test_sweep_ranks_survives_a_failed_trial_and_runs_only_what_is_missing(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "broken").touch()
    out = tmp_path / "sweep"

    def again() -> tuple[Sweep, list[Trial]]:
        sweep = Sweep(_space(), _objective(marks), str(out), seed=5, limits=Limits(concurrent=2))
        return sweep, write_summary(sweep.search(), sweep.space, {"seed": 5}, out)

    _, first = again()
    assert [t.parameters[PAIRS] for t in first] == [16, 8, 32]
    assert [t.value for t in first] == [1.0, 0.92, None]
    assert "no memory for 32 pairs" in first[2].error
    assert first[0].metrics["loss"] == 0.5
    best = load_config(out / "best.yaml")
    assert (best.training.batch_pairs, best.training.steps, best.seed) == (16, 20, 5)
    # Tune tries again what a lost node may have broken; a fault of the settings would only come back.
    (marks / "broken").unlink()
    assert _calls(marks) == {"8-0": "x", "16-0": "x", "32-0": "x"}

    sweep, second = again()
    assert [t.value for t in second] == [1.0, 0.92, pytest.approx(0.84)]
    assert _calls(marks) == {"8-0": "x", "16-0": "x", "32-0": "xx"}

    # Finalists and default over seeds 5, 6, 7: seed 5 of the finalists is the search's own trial.
    ranked = contest(sweep, second)
    assert [len(c.values) for c in ranked] == [3, 3, 3, 3]
    assert [c.parameters.get(PAIRS) for c in ranked] == [16, 8, 32, None]
    assert ranked[-1].name == DEFAULT
    assert _calls(marks) == {f"{n}-{s}": "x" for n in (8, 16, 32, 64) for s in (0, 6, 7)} | {"32-0": "xx"}

    with pytest.raises(OutputError, match="another space or seed"):
        Sweep(_space(metric="loss"), _objective(marks), str(out), seed=5)


def test_tunes_own_books_may_be_lost_and_trackers_have_the_trials(tmp_path: Path) -> None:
    marks, out, uri = tmp_path / "marks", tmp_path / "sweep", f"file://{tmp_path / 'mlflow'}"
    marks.mkdir()
    for _ in range(2):
        sweep = Sweep(_space(), _objective(marks), str(out), limits=Limits(concurrent=2), mlflow=uri)
        trials = sweep.search()
        assert sorted(t.value for t in trials if t.value is not None) == [pytest.approx(0.84), 0.92, 1.0]
        for book in out.glob("trials-0/*.pkl"):
            book.unlink()
    assert set(_calls(marks).values()) == {"x"}
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    logged = client.search_runs([experiment.experiment_id])
    assert {r.data.params[PAIRS] for r in logged} == {"8", "16", "32"}
    assert {round(r.data.metrics["accuracy"], 2) for r in logged} == {1.0, 0.92, 0.84}
    curves = [_accuracies(book) for book in out.glob("trials-0/*/events.out.tfevents*")]
    assert {round(curve[-1], 2) for curve in curves if curve} == {1.0, 0.92, 0.84}

    # Those that Tune did not draw, too: who looks for the finalists' seeds finds them by their settings.
    sweep.points("seeds", [["training.steps=20", f"{PAIRS}=8", "seed=7"]])
    more = [r.data.params for r in client.search_runs([experiment.experiment_id])][: -len(logged)]
    assert more == [{"overrides/training.steps": "20", f"overrides/{PAIRS}": "8", "overrides/seed": "7"}]


def _accuracies(book: Path) -> list[float]:
    events = EventAccumulator(str(book)).Reload()
    return [e.value for e in events.Scalars("ray/tune/accuracy")] if events.Tags()["scalars"] else []


def test_early_stopping_ends_the_weak_trial(tmp_path: Path) -> None:
    def objective(overrides: Sequence[str], out: str, report: Report) -> Mapping[str, float]:
        pairs = int(overrides[-1].split("=")[1])
        for step in range(1, 8):
            report({"accuracy": pairs / 100 + step / 1000, "step": step})
        return {"accuracy": pairs / 100 + 0.1, "step": 99}

    # Grid order: the best comes first, so that both later ones fall below it at the first rung.
    space = _space(
        scheduler="asha", reports=8, asha_keep=2, parameters={PAIRS: {"grid": [32, 16, 8]}}, fixed={}
    )
    trials = Sweep(space, objective, str(tmp_path / "asha"), seed=1).search()
    steps = {t.parameters[PAIRS]: t.metrics["step"] for t in trials}
    assert steps[32] == 99
    assert steps[16] == steps[8] == 1
    assert {t.parameters[PAIRS]: t.ended for t in trials} == {32: True, 16: False, 8: False}
    assert [t.parameters[PAIRS] for t in best_first(trials, "max")] == [32, 16, 8]


@pytest.mark.faults
def test_a_budget_ends_the_sweep_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    def objective(overrides: Sequence[str], out: str, report: Report) -> Mapping[str, float]:
        import time

        with (Path(out).parent.parent / "calls").open("a") as calls:
            calls.write(overrides[-1] + "\n")
        pairs = int(overrides[-1].split("=")[1])
        report({"accuracy": pairs / 1000})
        time.sleep(0.2 if pairs == 8 else 60 if not (Path(out).parent.parent / "fast").exists() else 0)
        return {"accuracy": pairs / 100}

    space = _space(parameters={PAIRS: {"grid": [8, 16, 32, 64]}}, budget="0.001cpuh")
    out = tmp_path / "sweep"
    first = Sweep(space, objective, str(out), limits=Limits(hours=0.001))
    trials = write_summary(first.search(), space, None, out)
    assert first.ended_by == "budget"
    assert [(t.parameters[PAIRS], t.ended) for t in trials] == [(8, True), (16, False)]
    assert load_config(out / "best.yaml").training.batch_pairs == 8
    assert first.spent() >= 0.001

    # The same budget again: nothing starts, nothing is lost.
    again = Sweep(space, objective, str(out), limits=Limits(hours=0.001))
    assert len(again.search()) == 2
    assert again.ended_by == "budget"

    (out / "fast").touch()
    larger = Sweep(space.changed(budget="1cpuh"), objective, str(out), limits=Limits(hours=1.0))
    assert sorted(t.value for t in larger.search() if t.ended and t.value is not None) == [
        0.08,
        0.16,
        0.32,
        0.64,
    ]
    assert not larger.ended_by
    calls = (out / "calls").read_text().split()
    assert calls.count(f"{PAIRS}=8") == 1
    assert calls.count(f"{PAIRS}=16") == 2


def test_a_metric_that_no_trial_reports_ends_the_sweep_at_once(tmp_path: Path) -> None:
    def objective(overrides: Sequence[str], out: str, report: Report) -> Mapping[str, float]:
        return {"loss": 1.0}

    space = _space(parameters={PAIRS: {"grid": list(range(8, 40))}})
    sweep = Sweep(space, objective, str(tmp_path / "sweep"))
    trials = sweep.search()
    assert sweep.ended_by == "failures"
    assert 3 <= len(trials) < 8, "three failures and nothing else: the others are not worth starting"
    assert all("reports loss, not accuracy" in t.error for t in trials if t.error)


@pytest.mark.parametrize("search", ["random", "optuna", "bohb"])
def test_drawn_trials_do_not_repeat_and_find_the_good_region(tmp_path: Path, search: str) -> None:
    def objective(overrides: Sequence[str], out: str, report: Report) -> Mapping[str, float]:
        rate = float(overrides[-1].split("=")[1])
        report({"accuracy": -abs(rate - 0.3)})
        return {"accuracy": -abs(rate - 0.3)}

    parameters = {"objective.hardness.beta": {"uniform": [0.0, 1.0]}}
    space = _space(search=search, samples=12, parameters=parameters, fixed={}, reports=2)
    sweep = Sweep(space, objective, str(tmp_path / search), seed=3, limits=Limits(concurrent=1))
    trials = sweep.search()
    assert len({t.parameters["objective.hardness.beta"] for t in trials}) == 12
    assert max(t.value for t in trials if t.value is not None) > -0.1
