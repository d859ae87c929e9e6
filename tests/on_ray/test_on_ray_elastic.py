"""Training on two nodes that a third joins, of which one is drained and one is killed, uses what there is."""

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

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(1500)]

STEPS = 800
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


def test_nodes_that_join_are_used_and_a_drained_and_a_killed_one_leave_the_training_going(
    tmp_path: Path, private_tmp: str
) -> None:
    reference = elastic_job(tmp_path, "reference", STEPS)
    run_training(reference)
    script = Path(__file__).parents[1] / "elastic_cluster.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(STEPS)],
        env={**os.environ, "RAY_TMPDIR": private_tmp},
        capture_output=True,
        text=True,
        timeout=1300,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    story = [json.loads(line) for line in lines]
    assert done.returncode == 0, (story, done.stderr[-3000:])

    def told(what: str) -> list[dict[str, Any]]:
        return [event for event in story if event["what"] == what]

    # Two workers, then three, then two, then one.
    assert [event["nodes"] for event in told("first step")] == [2, 3, 2, 1]
    assert [event["cpus"] for event in told("first step")] == [2, 3, 2, 1]
    # The notice became a checkpoint within the grace time, and training went on from it, both times.
    (saved,) = told("checkpoint in time")
    assert saved["left"] > 0
    (name,) = saved["names"]
    step = int(name.removeprefix("step="))
    starts = [event["step"] for event in told("first step")]
    # Before that the node that joined made the workers save: nothing planned a checkpoint.
    assert 20 < starts[1] < step < STEPS
    assert starts == [1, starts[1], step + 1, step + 1]
    # Each time the steps since then were done again, and it was said what that took.
    matches = [re.fullmatch(LOSS, event["text"]) for event in told("said")]
    losses = [[float(n) for n in found.groups()] for found in matches if found]
    assert [checkpoint + 1 for _, checkpoint, *_ in losses] == starts[1:], told("said")
    for last, checkpoint, steps, lost, still in losses:
        assert steps == last - checkpoint >= 0
        assert 0 < still <= lost < 300
    assert [event["steps"] for event in told("done")] == [STEPS]
    one, two = (
        [(r["step"], r["loss"]) for r in read_telemetry(Path(job.work) / "telemetry.jsonl")]
        for job in (reference, elastic_job(tmp_path, "elastic", STEPS))
    )
    assert [s for s, _ in two] == list(range(1, STEPS + 1))
    assert [x for _, x in two] == pytest.approx([x for _, x in one], rel=1e-3)
