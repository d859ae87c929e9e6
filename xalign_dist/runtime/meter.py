"""What a run costs: hours of CPUs and GPUs that the cluster held, whether they worked or waited."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import ray
from ray.exceptions import RayError

SECONDS_BETWEEN = 10.0
_KINDS = {"cpu_hours": "CPU", "gpu_hours": "GPU"}


class Meter:
    """Adds up what ``read`` says is there, as nodes come and go.

    Args:
        read: resources by Ray's name, as ``ray.cluster_resources``. An error leaves the last answer.
        clock: seconds, steadily growing.
    """

    def __init__(
        self, read: Callable[[], Mapping[str, float]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._clock = read, clock
        self._lock = threading.Lock()
        self._hours = dict.fromkeys(_KINDS, 0.0)
        self._there: Mapping[str, float] = {}
        self._since = clock()
        self.hours()

    def hours(self) -> dict[str, float]:
        """``cpu_hours`` and ``gpu_hours`` since the meter was made."""
        with self._lock:
            now = self._clock()
            for name, kind in _KINDS.items():
                self._hours[name] += self._there.get(kind, 0.0) * (now - self._since) / 3600
            self._since = now
            with contextlib.suppress(RayError, ConnectionError, RuntimeError):
                self._there = dict(self._read())
            return dict(self._hours)


@contextlib.contextmanager
def metered(every: float = SECONDS_BETWEEN) -> Iterator[Meter]:
    """A meter of the Ray cluster that this process has joined, read ``every`` seconds."""
    meter, ended = Meter(ray.cluster_resources), threading.Event()

    def watch() -> None:
        while not ended.wait(every):
            meter.hours()

    thread = threading.Thread(target=watch, name="xalign-meter", daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        ended.set()
        thread.join(timeout=every)  # A cluster that is gone does not answer; the run ends all the same.
