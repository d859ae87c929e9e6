"""What ends a sweep early: its budget is spent, or every trial fails."""

from __future__ import annotations

import ctypes
import json
import math
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial as TuneTrial

from xalign_dist.errors import ConfigError
from xalign_dist.pipeline.rundir import write_json

BUDGET, FAILURES = "budget", "failures"
FIRST_FAILURES = 3
"""So many failed trials and none that succeeded end the sweep."""
_WRITE_SECONDS = 2.0
_TRIM_SECONDS = 20.0
# A driver that was stopped and goes on must not charge the pause.
_LONGEST_STEP = 30.0


@dataclass(slots=True)
class State:
    """What the guard knows, on disk as guard.json.

    Attributes:
        limit: unit-hours that may be spent; None: no limit.
        rate: units that one running trial uses.
        spent: unit-hours used by all trials so far, over all starts of the sweep.
        failed: trials that failed since the start.
        succeeded: trials that ended since the start.
        stopped: :data:`BUDGET`, :data:`FAILURES`, or empty.
        epoch: counts Tune's experiments, see :func:`arm`.
    """

    limit: float | None = None
    rate: float = 1.0
    spent: float = 0.0
    failed: int = 0
    succeeded: int = 0
    stopped: str = ""
    epoch: int = 0

    def spent_all(self) -> bool:
        """Whether nothing is left of the budget."""
        return self.limit is not None and self.spent >= self.limit


class Guard(Callback, Stopper):
    """Charges running trials by the clock, and tells Tune when to stop everything.

    Tune pickles its callbacks and stoppers apart from each other and takes them up again after a
    driver's death: they meet in the state of their path, of which the process keeps one.
    """

    _states: ClassVar[dict[str, State]] = {}

    def __init__(self, path: str, metric: str) -> None:
        self.path, self.metric = path, metric
        self._ticked = self._written = self._trimmed = 0.0
        self._running: list[Any] = []

    @classmethod
    def forget(cls, path: str) -> None:
        """Read the state from disk again when it is next asked for."""
        cls._states.pop(path, None)

    @property
    def state(self) -> State:
        """Of this path, from disk at first."""
        return self._states.setdefault(self.path, read_state(self.path))

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Charge the time since the last step."""
        now = time.monotonic()
        elapsed = min(now - self._ticked, _LONGEST_STEP) if self._ticked else 0.0
        self._ticked = now
        if self.state.stopped:
            self._end_running()
        running = [t for t in trials if t.status == TuneTrial.RUNNING]
        self._running = [t.temporary_state.ray_actor for t in running]
        self.state.spent += len(running) * elapsed * self.state.rate / 3600
        if now - self._written > _WRITE_SECONDS:
            self._write()
        if now - self._trimmed > _TRIM_SECONDS:
            self._trimmed = now
            give_memory_back()

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Count a trial whose process was lost too often."""
        self.state.failed += 1
        self._write()

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Count it; one that failed by itself has NaN for its metric."""
        value = trial.last_result.get(self.metric)
        if value is None or math.isnan(value):
            self.state.failed += 1
        else:
            self.state.succeeded += 1
        # Sliding windows over every number that a trial reported, for averages that nobody here asks for:
        # half of what Tune keeps of a trial that ended.
        trial.run_metadata.metric_n_steps.clear()
        trial.run_metadata.metric_analysis.clear()
        self._write()

    def on_experiment_end(self, trials: list[TuneTrial], **info: Any) -> None:
        """The last word."""
        self._write()
        give_memory_back()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is stopped by itself."""
        return False

    def stop_all(self) -> bool:
        """Whether the sweep ends now."""
        state = self.state
        if state.spent_all():
            state.stopped = BUDGET
        elif state.failed >= FIRST_FAILURES and not state.succeeded:
            state.stopped = FAILURES
        return bool(state.stopped)

    def _end_running(self) -> None:
        """Tune only asks a trial to stop, which it hears at its next report: that may be hours away."""
        for actor in self._running:
            if actor is not None:
                ray.kill(actor)

    def _write(self) -> None:
        self._written = time.monotonic()
        write_json(Path(self.path), asdict(self.state))


def give_memory_back() -> None:
    """Tune writes its whole state again and again, and glibc keeps what the growing copies took."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def read_state(path: str) -> State:
    """The state on disk; a fresh one where there is none."""
    file = Path(path)
    return State(**json.loads(file.read_text("utf-8"))) if file.exists() else State()


def arm(path: str, limit: float | None, rate: float, *, again: bool = False) -> State:
    """A new start of the sweep: limit and rate as given now, what was spent before is kept.

    Tune takes trials that failed or were cut off for ended: with ``again``, or after a stop, the
    next start asks for all of them anew (those with a record only repeat it).
    """
    before = read_state(path)
    state = State(limit, rate, before.spent, epoch=before.epoch + bool(before.stopped or again))
    if state.spent_all():
        state.epoch, state.stopped = before.epoch, before.stopped
    Guard.forget(path)
    write_json(Path(path), asdict(state))
    return state


def budget_hours(budget: str | None, gpus: float, cpus: float) -> tuple[float | None, float]:
    """(limit in unit-hours, units that one trial uses) of ``20gpuh`` or ``3.5cpuh``.

    Args:
        budget: None: no limit.
        gpus: of one trial.
        cpus: of one trial.

    Raises:
        ConfigError: GPU hours where trials use no GPU.
    """
    if budget is None:
        return None, gpus or cpus
    found = re.fullmatch(r"([\d.]+)(gpuh|cpuh)", budget)
    if found is None:
        raise ConfigError(f"budget {budget!r} is neither GPU nor CPU hours", "write 20gpuh or 3.5cpuh")
    amount, unit = float(found[1]), found[2]
    if unit == "gpuh" and not gpus:
        raise ConfigError(f"budget {budget}, but the cluster has no GPU", "give it in CPU hours, e.g. 20cpuh")
    return amount, gpus if unit == "gpuh" else cpus
