"""What goes between the workers of a training and the command that started it."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from xalign_dist.errors import XalignError
from xalign_dist.runtime.lost_time import TrainingTime
from xalign_dist.runtime.metrics import observe_step
from xalign_dist.training.job import TrainResult

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


@ray.remote(num_cpus=0)
class Channel:
    """Carries what rank 0 has to say to the driver. Without a CPU, so that it never waits for one."""

    def __init__(self) -> None:
        self._records: list[tuple[str, float, dict[str, Any]]] = []
        self._warnings: list[str] = []
        self._notes: list[str] = []
        self._stop = False
        self._result: TrainResult | None = None
        self._error: XalignError | None = None

    def push(self, attempt: str, record: dict[str, Any]) -> None:
        """One step's figures, by which start of the workers."""
        self._records.append((attempt, time.monotonic(), record))

    def finish(self, result: TrainResult | None, error: XalignError | None) -> None:
        """The end: a result, or a fault of the user's that no restart would mend. The first one counts."""
        if not self.outcome_known():
            self._result, self._error = result, error

    def warn(self, text: str) -> None:
        """A warning of rank 0's."""
        self._warnings.append(text)

    def note(self, text: str) -> None:
        """What rank 0 has to say that is no warning."""
        self._notes.append(text)

    def stop(self) -> None:
        """The driver wants a checkpoint and an end."""
        self._stop = True

    def stop_wanted(self) -> bool:
        """Whether it does."""
        return self._stop

    def drain(self) -> tuple[list[tuple[str, float, dict[str, Any]]], list[str], list[str]]:
        """The records, warnings and notes since the last call."""
        said = self._records, self._warnings, self._notes
        self._records, self._warnings, self._notes = [], [], []
        return said

    def outcome_known(self) -> bool:
        """Whether :meth:`finish` was called."""
        return self._result is not None or self._error is not None

    def outcome(self) -> tuple[TrainResult | None, XalignError | None]:
        """What :meth:`finish` was told."""
        return self._result, self._error


class ToDriver(logging.Handler):
    """Sends warnings to the driver: a worker's own log lies on another machine, where nobody looks."""

    def __init__(self, channel: Any) -> None:
        super().__init__(logging.WARNING)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        self._channel.warn.remote(self.format(record))


@contextmanager
def relay(
    channel: Any,
    on_step: Callable[[dict[str, Any]], None] | None,
    say: Callable[[str], None] = _log.info,
    stop: threading.Event | None = None,
) -> Iterator[None]:
    """Hand on what the workers say while the trainer runs, all of it by the end, and ``stop`` to them."""
    done, clock = threading.Event(), TrainingTime(say)

    def pump() -> None:
        while True:
            last = done.wait(_POLL_SECONDS)
            if stop is not None and stop.is_set():
                channel.stop.remote()
            records, warnings, notes = ray.get(channel.drain.remote())
            for text in notes:
                say(text)
            for text in warnings:
                _log.warning("%s", text)
            for attempt, at, record in records:
                clock.heard(attempt, record["step"], at)
                observe_step(record)
                if on_step is not None:
                    on_step(record)
            if last:
                return

    # In this thread's context, which says which run, stage and round the events are of.
    inside = contextvars.copy_context()
    thread = threading.Thread(target=inside.run, args=(pump,), name="xalign-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
