from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tuning.space import Space
from tuning.statement import statement
from tuning.summary import Trial, write_summary
from tuning.sweep import Limits, Sweep
from xalign_dist.errors import ConfigError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

DELTA = "objective.false_negatives.delta"
SPACE = {
    "metric": "height",
    "scheduler": "pbt",
    "search": "grid",
    "reports": 3,
    "parameters": {DELTA: {"grid": [0.0, 1.0, 10.0, 2.0]}},
}


def _stages(marks: Path) -> Any:
    """Each round adds its setting to what the folder holds; every call leaves a mark.

    A nested class, because Ray's workers cannot import this test module.
    """

    class Climb:
        def run(self, overrides: Sequence[str], folder: str, number: int) -> Mapping[str, float]:
            step = float(overrides[0].split("=")[1])
            with (marks / f"{Path(folder).name}-{number}").open("a") as log:
                log.write("x")
            if (marks / "broken").exists() and step == 1.0:
                raise RuntimeError("slipped")
            before = Path(folder) / f"height-{number - 1}"
            height = step + (float(before.read_text()) if number > 1 else 0.0)
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"height-{number}").write_text(str(height))
            return {"height": height}

        def take_over(
            self, donor: str, folder: str, number: int, overrides: Sequence[str], lineage: Sequence[Any]
        ) -> None:
            Path(folder).mkdir(parents=True)
            for past in range(1, number + 1):
                name = f"height-{past}"
                (Path(folder) / name).write_text((Path(donor) / name).read_text())

    return Climb()


def _unused(overrides: Sequence[str], folder: str, report: Any) -> Mapping[str, float]:
    raise AssertionError("a population runs round by round")


def _sweep(tmp_path: Path, **limits: Any) -> tuple[Sweep, list[Trial]]:
    marks = tmp_path / "marks"
    marks.mkdir(exist_ok=True)
    space = Space.model_validate(SPACE)
    found = Sweep(
        space,
        _unused,
        str(tmp_path / "sweep"),
        seed=1,
        limits=Limits(**{"concurrent": 2, **limits}),
        stages=_stages(marks),
    )
    return found, found.search()


@pytest.mark.faults
def test_weak_lines_go_on_from_the_best_and_nothing_runs_twice(tmp_path: Path) -> None:
    sweep, found = _sweep(tmp_path)
    marks, runs = tmp_path / "marks", tmp_path / "sweep" / "runs"
    # The one that does not move is replaced after round 1, and so on: two takeovers, none failed.
    ended = [t for t in found if t.ended]
    replaced = [t for t in found if t.replaced]
    assert (len(ended), len(replaced), len(found)) == (4, 2, 6)
    assert not any(t.error for t in found)
    assert replaced[0].parameters == {DELTA: 0.0}
    assert replaced[0].note.startswith("replaced after round 1 by ")
    # From what it began with a line reaches three times its setting; a copy holds the best one's rounds.
    copies = [t for t in ended if t.schedule]
    assert len(copies) == 2
    for t in copies:
        donors = {row["trial"]: row["parameters"][DELTA] for row in t.schedule[:-1]}
        assert set(donors.values()) == {10.0}
        rounds = [row["from"] for row in t.schedule] + [4]
        spans = [b - a for a, b in pairwise(rounds)]
        steps = [row["parameters"][DELTA] for row in t.schedule]
        assert t.value == sum(n * step for n, step in zip(spans, steps, strict=True))
        assert t.value > 3 * t.parameters[DELTA] or t.parameters[DELTA] == 10.0
        # The donor's own rounds are not run by the copy.
        own = sorted(int(p.name.rsplit("-", 1)[1]) for p in marks.glob(f"{t.name}-*"))
        assert own == list(range(t.schedule[-1]["from"], 4))
    assert all(p.read_text() == "x" for p in marks.iterdir()), "a round ran twice"
    assert len(list(marks.iterdir())) == 12
    assert {p.name for p in runs.iterdir()} == {t.name for t in found}

    _, again = _sweep(tmp_path)
    assert again == found
    assert all(p.read_text() == "x" for p in marks.iterdir()), "what was finished ran again"

    ranked = write_summary(found, sweep.space, None, tmp_path / "sweep")
    rows = json.loads((tmp_path / "sweep" / "trials.json").read_text())["trials"]
    assert [r["name"] for r in rows if r["replaced"]] == [t.name for t in ranked[4:]]
    assert "replaced after round 1 by" in (tmp_path / "sweep" / "trials.md").read_text()
    best = copies[0]
    said = statement(sweep.space, [best], [], [], "", sweep.limits)
    assert any("settings changed on the way: from round 1" in s and "constants" in s for s in said)


@pytest.mark.faults
def test_how_many_run_at_a_time_changes_nothing(tmp_path: Path) -> None:
    for name, slots in (("one", 1), ("four", 4)):
        (tmp_path / name).mkdir()
        _sweep(tmp_path / name, concurrent=slots)
    one, four = ((tmp_path / n / "sweep" / "population.json").read_text() for n in ("one", "four"))
    assert one == four


@pytest.mark.faults
def test_a_line_that_failed_is_replaced_and_keeps_its_error(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "broken").touch()
    _, found = _sweep(tmp_path)
    failed = next(t for t in found if t.error)
    assert failed.parameters == {DELTA: 1.0}
    assert "slipped; replaced after round 1 by" in failed.note
    assert failed.value is None
    assert sum(t.ended for t in found) == 4


@pytest.mark.faults
def test_a_spent_budget_ends_a_population_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    sweep, found = _sweep(tmp_path, hours=1e-9)
    assert sweep.ended_by == "budget"
    assert sum(t.ended for t in found) == 0
    sweep, found = _sweep(tmp_path, hours=1.0)
    assert sweep.ended_by == ""
    assert sum(t.ended for t in found) == 4


def test_an_objective_in_one_piece_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="round by round"):
        Sweep(Space.model_validate(SPACE), _unused, str(tmp_path)).search()
