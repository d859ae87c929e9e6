"""A thousand trials of a tiny objective: does the driver's memory stay flat, and what does a trial cost?

Memory: the resident set of the driver after a tenth of the trials (warm-up) and at the end.
Overhead: of 10 s trials, 2 at a time, the time from the start of the first to the end of the last, over
what they sleep. What passes before the first one starts is paid once a sweep, and is a row of its own.

    python benchmarks/sweep_scale.py [--quick] [--json FILE]
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import common

from tuning.records import Records
from tuning.space import Space
from tuning.sweep import Limits, Sweep
from xalign_dist.config import RuntimeConfig
from xalign_dist.runtime.session import ray_session

TRIALS, QUICK_TRIALS = 1000, 100
SECONDS, TIMED, QUICK_TIMED = 10.0, 12, 4
CONCURRENT = 2
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Both measurements."""
    args = common.parser(__doc__).parse_args()
    count, timed = (QUICK_TRIALS, QUICK_TIMED) if args.quick else (TRIALS, TIMED)
    with tempfile.TemporaryDirectory() as folder, ray_session(RuntimeConfig()):
        early, late, rate = memory(folder, count)
        overhead, start = cost(folder, timed)
    rows = [
        common.Row("driver's memory, end over warm-up", late, early, "MiB", count, "within 10 %"),
        common.Row("trials of no length", rate, None, "trials/s", count),
        common.Row("overhead of 10 s trials, 2 at a time", overhead, None, "%", timed, "under 5"),
        common.Row("until the first trial starts", start, None, "s", 1),
    ]
    common.finish("Sweep of many trials", rows, args.json)


def memory(folder: str, count: int) -> tuple[float, float, float]:
    """(MiB after a tenth of the trials, MiB at the end, trials/s)."""
    sweep = _sweep(f"{folder}/many", count, 0.0)
    seen: list[tuple[int, float]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            seen.append((len(list(Path(sweep.lane.records).glob("*.json"))), _resident()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    found = sweep.search()
    seconds = time.monotonic() - started
    done.set()
    watcher.join()
    assert len(found) == count
    assert all(t.ended for t in found)
    early = next(mib for ended, mib in seen if ended >= count // 10)
    return early, _resident(), count / seconds


def cost(folder: str, count: int) -> tuple[float, float]:
    """(percent beyond what the trials sleep, seconds until the first one started)."""
    sweep = _sweep(f"{folder}/timed", count, SECONDS)
    asked = time.time()
    sweep.search()
    trials = [record for _, record in Records(sweep.lane.records).all()]
    first, last = min(t.started for t in trials), max(t.started + t.seconds for t in trials)
    return 100 * ((last - first) / (SECONDS * count / CONCURRENT) - 1), first - asked


def _sweep(folder: str, count: int, seconds: float) -> Sweep:
    parameters = {"objective.hardness.beta": {"uniform": [0.0, 1.0]}}
    space = Space.model_validate(
        {"metric": "accuracy", "search": "random", "samples": count, "parameters": parameters}
    )

    def objective(
        overrides: Sequence[str], out: str, report: Callable[[Mapping[str, float]], None], /
    ) -> Mapping[str, float]:
        time.sleep(seconds)
        return {"accuracy": float(overrides[-1].split("=")[1])}

    return Sweep(space, objective, folder, limits=Limits(concurrent=CONCURRENT))


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * _PAGE / 2**20


if __name__ == "__main__":
    main()
