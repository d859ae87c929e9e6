"""One JSON file a trial: what it was asked, what it reported, how it ended.

The sweep's memory is these files, not the driver's: a trial writes its own as its last act, so a
driver that is killed a moment later finds it, and no finished trial ever runs again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tuning.space import Value
from xalign_dist.errors import OutputError
from xalign_dist.pipeline.rundir import write_json


@dataclass(slots=True)
class Record:
    """One trial.

    Attributes:
        overrides: ``key=value``, fixed ones too.
        chosen: what the search varied; empty: a point that was asked for by name.
        started: seconds since the epoch.
        reports: numbers reported on the way, in order.
        final: the last numbers; None: the trial did not end.
        seconds: of its work, over all attempts that reported.
        error: what went wrong; empty: nothing.
        lineage: of a line of a population, which runs it goes on from: ``donor``, ``round`` (the
            last that is the donor's) and the donor's ``overrides`` up to there, the oldest first.
        replaced: of a line of a population: after which round, by which line; empty: it was not.
    """

    overrides: list[str]
    chosen: dict[str, Value] = field(default_factory=dict)
    started: float = 0.0
    reports: list[dict[str, float]] = field(default_factory=list)
    final: dict[str, float] | None = None
    seconds: float = 0.0
    error: str = ""
    lineage: list[dict[str, Any]] = field(default_factory=list)
    replaced: str = ""


class Records:
    """The records of one sweep, in a folder that every trial sees."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def read(self, name: str) -> Record | None:
        """The record of trial ``name``; None: there is none.

        Raises:
            OutputError: damaged.
        """
        path = self._path(name)
        try:
            return Record(**json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as err:
            raise OutputError(f"{path}: damaged ({err})", "delete it: the trial then runs again") from err

    def all(self) -> list[tuple[str, Record]]:
        """Names and records, in the order in which they started."""
        found = [(path.stem, self.read(path.stem)) for path in self.folder.glob("*.json")]
        known = [(name, record) for name, record in found if record is not None]
        return sorted(known, key=lambda item: (item[1].started, item[0]))

    def write(self, name: str, record: Record) -> None:
        """Write it whole or not at all."""
        write_json(self._path(name), asdict(record))

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Nobody else runs trial ``name`` meanwhile: two draws may be equal. Freed when the process ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def trial_name(overrides: Sequence[str]) -> str:
    """Named by what is tried, not by Tune's trial id: a restarted trial finds its finished stages."""
    return hashlib.blake2b("\n".join(overrides).encode(), digest_size=8).hexdigest()


def numbers(given: Mapping[str, float]) -> dict[str, float]:
    """Plain floats, as JSON takes them."""
    return {key: float(value) for key, value in given.items()}
