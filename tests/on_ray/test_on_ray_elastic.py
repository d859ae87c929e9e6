"""Training on three nodes, of which one is drained and one is killed, goes on on what is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from training_world import elastic_job

from xalign_dist.training import run_training
from xalign_dist.training.telemetry import read_telemetry

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

STEPS = 500
LOSS = (
    r"training was interrupted after step (\d+) and goes on after step (\d+): (\d+) steps are done again, "
    r"([\d.]+) s are lost, ([\d.]+) s of them without training"
)


@pytest.fixture
def private_tmp() -> Iterator[str]:
    """Where this cluster writes its address, so that no other command on the machine joins it."""
    folder = tempfile.mkdtemp(prefix="xt-el-", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_drained_node_and_a_killed_one_leave_the_training_going(tmp_path: Path, private_tmp: str) -> None:
    reference = elastic_job(tmp_path, "reference", STEPS)
    run_training(reference)
    script = Path(__file__).parents[1] / "elastic_cluster.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(STEPS)],
        env={**os.environ, "RAY_TMPDIR": private_tmp},
        capture_output=True,
        text=True,
        timeout=800,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    story = [json.loads(line) for line in lines]
    assert done.returncode == 0, (story, done.stderr[-3000:])

    def told(what: str) -> list[dict[str, Any]]:
        return [event for event in story if event["what"] == what]

    # Three workers, then two, then one.
    assert [event["nodes"] for event in told("first step")] == [3, 2, 1]
    workers = [event["cpus"] for event in told("first step")]
    assert workers[0] / workers[2] == pytest.approx(3)
    assert workers[1] / workers[2] == pytest.approx(2)
    # The notice became a checkpoint within the grace time, and training went on from it, both times.
    (saved,) = told("checkpoint in time")
    assert saved["left"] > 0
    (name,) = saved["names"]
    step = int(name.removeprefix("step="))
    assert 20 < step < STEPS
    assert [event["step"] for event in told("first step")] == [1, step + 1, step + 1]
    # Each time the steps since then were done again, and it was said what that took.
    matches = [re.fullmatch(LOSS, event["text"]) for event in told("said")]
    losses = [[float(n) for n in found.groups()] for found in matches if found]
    assert len(losses) == 2, told("said")
    for last, checkpoint, steps, lost, still in losses:
        assert checkpoint == step
        assert steps == last - step >= 0
        assert 0 < still <= lost < 300
    assert told("done") == [{"what": "done", "steps": STEPS}]
    one, two = (
        [(r["step"], r["loss"]) for r in read_telemetry(Path(job.work) / "telemetry.jsonl")]
        for job in (reference, elastic_job(tmp_path, "elastic", STEPS))
    )
    assert [s for s, _ in two] == list(range(1, STEPS + 1))
    assert [x for _, x in two] == pytest.approx([x for _, x in one], rel=1e-3)
