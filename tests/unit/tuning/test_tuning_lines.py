from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tuning.lines import Population
from tuning.records import Records
from tuning.space import Space
from tuning.trial import Lane

DELTA = "objective.false_negatives.delta"


class Killed(BaseException):
    """As if the driver ended here."""


class Stages:
    """Notes who takes over; is killed at take-over number ``dies``."""

    def __init__(self, dies: int) -> None:
        self.dies, self.taken = dies, 0

    def run(self, overrides: Sequence[str], folder: str, number: int) -> Mapping[str, float]:
        raise AssertionError("run() below does the rounds")

    def take_over(self, donor: str, folder: str, number: int, overrides: Any, lineage: Any) -> None:
        self.taken += 1
        if self.taken == self.dies:
            raise Killed


def _population(tmp_path: Path, ran: list[tuple[str, int]], dies: int = 0, lost: str = "") -> Population:
    space = Space.model_validate(
        {
            "metric": "height",
            "scheduler": "pbt",
            "search": "grid",
            "reports": 3,
            "parameters": {DELTA: {"grid": [float(n) for n in range(8)]}},
        }
    )
    lane = Lane("height", str(tmp_path / "runs"), str(tmp_path / "records"))
    records = Records(lane.records)

    def run(names: list[str], number: int) -> str:
        for name in names:
            record = records.read(name)
            assert record is not None
            if record.overrides[0] == lost and number == 2:
                continue
            ran.append((name, number))
            record.reports.append({"height": float(record.overrides[0].split("=")[1])})
            record.final = record.reports[-1] if number == 3 else None
            records.write(name, record)
        return ""

    return Population(space, lane, tmp_path, 0, Stages(dies), run)


@pytest.mark.parametrize("dies", [1, 2, 3, 4])
def test_a_decision_stands_whatever_is_killed_afterwards(tmp_path: Path, dies: int) -> None:
    whole: list[tuple[str, int]] = []
    _population(tmp_path / "whole", whole).run()
    assert len(whole) == len(set(whole)) == 24

    ran: list[tuple[str, int]] = []
    with pytest.raises(Killed):
        _population(tmp_path / "cut", ran, dies).run()
    assert len(ran) in (8, 16)
    _population(tmp_path / "cut", ran).run()
    assert ran == whole, "the same lines in the same order, none twice"
    _population(tmp_path / "cut", ran).run()
    assert ran == whole
    kept = dict(Records(str(tmp_path / "cut" / "records")).all())
    assert sum(r.final is not None for r in kept.values()) == 8
    assert sum(bool(r.replaced) for r in kept.values()) == len(kept) - 8 == 4


def test_a_lost_line_says_so_and_is_replaced(tmp_path: Path) -> None:
    ran: list[tuple[str, int]] = []
    _population(tmp_path, ran, lost=f"{DELTA}=5.0").run()
    kept = [r for _, r in Records(str(tmp_path / "records")).all() if r.error]
    assert [r.overrides for r in kept][:1] == [[f"{DELTA}=5.0"]]
    assert "lost in round 2" in kept[0].error
    assert kept[0].replaced.startswith("replaced after round 2")
