"""What Tune runs for each trial: the objective, and its record."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ray import tune

from tuning.records import Record, Records, numbers, trial_name
from tuning.space import Value, override
from xalign_dist.errors import ConfigError, XalignError

POINT = "overrides"
"""Key of a trial whose settings were not drawn by Tune; under it they are as for :func:`point`."""
LINE, ROUND, NAME = "line", "round", "trial"
"""Keys of a trial that is one round of a line of a population. Under LINE are its name (NAME) and, for
trackers, which see only what Tune is given, the settings that its record holds."""

_log = logging.getLogger(__name__)

Report = Callable[[Mapping[str, float]], None]


class Objective(Protocol):
    """Overrides (``key=value``) and the trial's own folder in, the last numbers out.

    ``report`` may be called before with numbers so far: early stopping compares trials by them.
    """

    def __call__(self, overrides: Sequence[str], folder: str, report: Report, /) -> Mapping[str, float]:
        """Run the trial."""


def point(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides by setting: trackers show them as parameters."""
    return dict(item.split("=", 1) for item in overrides)


@dataclass(frozen=True, slots=True)
class Lane:
    """What all trials of a sweep share.

    Attributes:
        metric: that has to be among the reported numbers.
        folders: holds one folder a trial.
        records: holds one record a trial.
        fixed: overrides of every trial.
    """

    metric: str
    folders: str
    records: str
    fixed: list[str] = field(default_factory=list)

    def folder(self, name: str) -> str:
        """Of the trial ``name``."""
        return str(Path(self.folders) / name)

    def overrides(self, chosen: Mapping[str, Any]) -> list[str]:
        """Of a trial as Tune gives it."""
        if POINT in chosen:
            return [f"{key}={value}" for key, value in chosen[POINT].items()]
        return [*self.fixed, *(override(key, value) for key, value in chosen.items())]

    @staticmethod
    def chosen(given: Mapping[str, Any]) -> dict[str, Value]:
        """What the search varied, of a trial as Tune gives it; empty: a point."""
        return {} if POINT in given else dict(given)


def trainable(lane: Lane, objective: Objective) -> Callable[[dict[str, Any]], None]:
    """The function that Tune calls in a trial's process.

    A trial with a record that ended only repeats its reports. A fault is recorded and reported as
    a metric of NaN, not raised: Tune's further attempts are for lost processes and nodes, and a
    fault of the settings would only come back.
    """

    def run_trial(chosen: dict[str, Any]) -> None:
        overrides, records = lane.overrides(chosen), Records(lane.records)
        name = trial_name(overrides)
        with records.alone(name):
            record = records.read(name) or Record(overrides, lane.chosen(chosen), started=time.time())
            if record.final is None:
                _work(lane, objective, records, name, record)
            else:
                for reported in record.reports:
                    tune.report(reported)
            tune.report(record.final or {lane.metric: math.nan})

    return run_trial


def _work(lane: Lane, objective: Objective, records: Records, name: str, record: Record) -> None:
    record.reports, record.error = [], ""
    before, started = record.seconds, time.monotonic()

    def report(given: Mapping[str, float]) -> None:
        record.reports.append(checked(given, lane.metric))
        record.seconds = before + time.monotonic() - started
        records.write(name, record)
        tune.report(record.reports[-1])

    try:
        record.final = checked(objective(record.overrides, lane.folder(name), report), lane.metric)
    except Exception as err:
        record.error = err.problem if isinstance(err, XalignError) else f"{type(err).__name__}: {err}"
        _log.exception("trial %s failed", name)
    finally:
        record.seconds = before + time.monotonic() - started
        records.write(name, record)


def checked(given: Mapping[str, float], metric: str) -> dict[str, float]:
    """``given`` as plain floats.

    Raises:
        ConfigError: ``metric`` is not among them.
    """
    if metric not in given:
        raise ConfigError(
            f"the trial reports {', '.join(sorted(given)) or 'nothing'}, not {metric}",
            f"set `metric` of the space to one of: {', '.join(sorted(given))}",
        )
    return numbers(given)
