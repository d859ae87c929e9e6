"""A population on Ray Tune: each round of each line is a trial, and its memory is on disk."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from tuning.population import Taken, first_settings, line_name, takeovers
from tuning.records import Record, Records
from tuning.space import Space
from tuning.trial import LINE, NAME, ROUND, Lane, checked
from xalign_dist.errors import OutputError, XalignError
from xalign_dist.pipeline.rundir import write_json

_FILE = "population.json"
_log = logging.getLogger(__name__)


class Stages(Protocol):
    """A trial that can be run round by round, and go on from what another one has."""

    def run(self, overrides: Sequence[str], folder: str, number: int) -> Mapping[str, float]:
        """Run round ``number`` (from 1) after those that ``folder`` holds; its numbers."""

    def take_over(
        self, donor: str, folder: str, number: int, overrides: Sequence[str], lineage: Sequence[Any]
    ) -> None:
        """Make ``folder`` of ``donor``'s rounds to ``number``, unless it is there; nothing runs meanwhile."""


def leg(lane: Lane, stages: Stages, rounds: int) -> Callable[[dict[str, Any]], None]:
    """The function that Tune calls for one round of one line. A round with a report is not run again."""

    def run_leg(given: dict[str, Any]) -> None:
        name, number, records = given[LINE][NAME], int(given[ROUND]), Records(lane.records)
        with records.alone(name):
            record = _of(records, name)
            if len(record.reports) < number:
                _advance(lane, stages, records, name, number, rounds)
                record = _of(records, name)
        there = len(record.reports) >= number
        tune.report(record.reports[number - 1] if there else {lane.metric: math.nan})

    return run_leg


def _advance(lane: Lane, stages: Stages, records: Records, name: str, number: int, rounds: int) -> None:
    record, started = _of(records, name), time.monotonic()
    before, record.error = record.seconds, ""
    try:
        found = checked(stages.run(record.overrides, lane.folder(name), number), lane.metric)
        record.reports.append(found)
        record.final = found if number == rounds else None
    except Exception as err:
        record.error = err.problem if isinstance(err, XalignError) else f"{type(err).__name__}: {err}"
        _log.exception("line %s failed in round %d", name, number)
    finally:
        record.seconds = before + time.monotonic() - started
        records.write(name, record)


class Population:
    """The lines of a sweep, round by round.

    population.json holds who runs in each round, and is written before anything of it is done: a
    decision stands, whatever is killed afterwards.

    Args:
        space: what varies, and how many rounds (``reports``).
        lane: where records and folders are.
        root: of the sweep.
        seed: of draws and decisions.
        stages: what a line does.
        run: runs the named lines' round; gives back what ended the sweep, or an empty string.
    """

    def __init__(
        self,
        space: Space,
        lane: Lane,
        root: Path,
        seed: int,
        stages: Stages,
        run: Callable[[list[str], int], str],
    ) -> None:
        self.space, self.lane, self.seed = space, lane, seed
        self.stages, self.run_round = stages, run
        self.records, self.path = Records(lane.records), root / _FILE
        self.members: list[list[str]] = []
        self.taken: list[list[Taken]] = []
        self._read()

    def run(self) -> None:
        """Every round; less when the sweep is ended, or no line is left that did not fail."""
        if not self.members:
            self._found()
        elif self.taken:
            self._apply()
        for number in range(1, self.space.reports + 1):
            missing = [n for n in self.members[number - 1] if len(self._reports(n)) < number]
            if missing and self.run_round(missing, number):
                return
            self._note_losses(missing, number)
            if number < self.space.reports and len(self.members) == number and not self._decide(number):
                return

    def _note_losses(self, names: Sequence[str], number: int) -> None:
        """A line whose process died could not write down why."""
        for name in names:
            record = _of(self.records, name)
            if len(record.reports) < number and not record.error:
                record.error = f"its process or node was lost in round {number}, more than once"
                self.records.write(name, record)

    def _found(self) -> None:
        names = []
        for slot, chosen in enumerate(first_settings(self.space, self.seed)):
            overrides = self.lane.overrides(chosen)
            names.append(line_name(slot, overrides, []))
            if self.records.read(names[-1]) is None:
                self.records.write(names[-1], Record(overrides, chosen, started=time.time()))
        self.members = [names]
        self._write()

    def _decide(self, number: int) -> bool:
        """Who runs in the next round; False: all lines failed."""
        now = self.members[-1]
        lines = [(name, self._value(name, number), _of(self.records, name).chosen) for name in now]
        if all(value is None for _, value, _ in lines):
            return False
        taken = takeovers(self.space, lines, self.seed, number)
        names = list(now)
        for one in taken:
            lineage = self._lineage(one, number)
            names[one.slot] = line_name(one.slot, self.lane.overrides(one.chosen), lineage)
        self.members.append(names)
        self.taken.append(taken)
        self._write()
        self._apply()
        return True

    def _apply(self) -> None:
        """Make the lines of the last decision, as far as they are not there yet."""
        number = len(self.members) - 1
        for one in self.taken[-1]:
            name, donor = self.members[-1][one.slot], _of(self.records, one.donor)
            overrides, lineage = self.lane.overrides(one.chosen), self._lineage(one, number)
            there = self.records.read(name)
            if there is None:
                folders = self.lane.folder(one.donor), self.lane.folder(name)
                self.stages.take_over(*folders, number, overrides, lineage)
                given = donor.reports[:number]
                there = Record(overrides, one.chosen, time.time(), reports=given, lineage=lineage)
                self.records.write(name, there)
            loser = _of(self.records, one.loser)
            loser.replaced = f"replaced after round {number} by {name}"
            self.records.write(one.loser, loser)

    def _lineage(self, one: Taken, number: int) -> list[dict[str, Any]]:
        donor = _of(self.records, one.donor)
        step = {"donor": one.donor, "round": number, "overrides": donor.overrides, "chosen": donor.chosen}
        return [*donor.lineage, step]

    def _reports(self, name: str) -> list[dict[str, float]]:
        return _of(self.records, name).reports

    def _value(self, name: str, number: int) -> float | None:
        reports = self._reports(name)
        value = reports[number - 1][self.space.metric] if len(reports) >= number else math.nan
        return None if math.isnan(value) else value

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            data = json.loads(self.path.read_text("utf-8"))
            self.members = data["members"]
            self.taken = [[Taken(**one) for one in taken] for taken in data["taken"]]
        except (ValueError, KeyError, TypeError) as err:
            raise OutputError(f"{self.path}: damaged ({err})", "choose another --out") from err

    def _write(self) -> None:
        taken = [[asdict(one) for one in taken] for taken in self.taken]
        write_json(self.path, {"schema": 1, "members": self.members, "taken": taken})


def _of(records: Records, name: str) -> Record:
    record = records.read(name)
    if record is None:
        raise OutputError(
            f"{records.folder}/{name}.json: missing", "choose another --out: a line lost its record"
        )
    return record
