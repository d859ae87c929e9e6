"""The sweep's driver is killed in the middle; the same command goes on, and no finished trial runs again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

TRIALS = 8
DRIVER = """
import sys, time
from pathlib import Path
from tuning.space import Space
from tuning.summary import write_summary
from tuning.sweep import Limits, Sweep
from xalign_dist.config import RuntimeConfig
from xalign_dist.runtime.session import ray_session

folder = Path(sys.argv[1])

def objective(overrides, out, report):
    name = overrides[-1].split("=")[1]
    with (folder / "starts").open("a") as log:
        log.write(name + "\\n")
    report({"accuracy": int(name) / 1000})
    time.sleep(1.0)
    with (folder / "ends").open("a") as log:
        log.write(name + "\\n")
    return {"accuracy": int(name) / 100}

if __name__ == "__main__":
    grid = {"grid": [8 * n for n in range(1, 9)]}
    space = Space.model_validate({"metric": "accuracy", "parameters": {"training.batch_pairs": grid}})
    with ray_session(RuntimeConfig()):
        sweep = Sweep(space, objective, str(folder / "sweep"), limits=Limits(concurrent=2))
        write_summary(sweep.search(), space, None, folder / "sweep")
"""


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def _start(script: Path, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr").open("ab"),
        start_new_session=True,
    )


def test_a_killed_driver_goes_on_and_no_finished_trial_runs_again(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER, "utf-8")
    driver = _start(script, tmp_path)
    deadline = time.monotonic() + 240
    while len(_lines(tmp_path / "ends")) < 3:
        assert driver.poll() is None, (tmp_path / "stderr").read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    # Its embedded cluster goes with it: what still ran must not end by itself later.
    time.sleep(5)
    ended = _lines(tmp_path / "ends")
    assert 3 <= len(ended) < TRIALS
    time.sleep(3)
    assert _lines(tmp_path / "ends") == ended

    second = _start(script, tmp_path)
    assert second.wait(timeout=240) == 0, (tmp_path / "stderr").read_text()[-2000:]
    assert sorted(_lines(tmp_path / "ends"), key=int) == [str(8 * n) for n in range(1, TRIALS + 1)]
    starts = _lines(tmp_path / "starts")
    assert all(starts.count(name) == 1 for name in ended)
    assert len(starts) <= TRIALS + 2, "only what ran at the kill was started twice"
    trials = json.loads((tmp_path / "sweep" / "trials.json").read_text())["trials"]
    assert [t["value"] for t in trials] == [0.08 * n for n in range(TRIALS, 0, -1)]
