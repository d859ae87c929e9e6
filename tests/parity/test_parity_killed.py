"""Killed at random moments, again and again, and continued on as many ranks: the same losses to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from killed_ranks import job_of

from xalign_dist.encoder import load_encoder
from xalign_dist.training.telemetry import read_telemetry

KILLS = 4
SCRIPT = Path(__file__).parents[1] / "killed_ranks.py"


def start(home: Path, name: str) -> subprocess.Popen[str]:
    with said(home, name).open("a") as errors:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), str(home), name],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )


def said(home: Path, name: str) -> Path:
    """What the ranks wrote to stderr."""
    return home / f"{name}.stderr"


def steps_of(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(line.split()[1]) for line in process.stdout if line.startswith("step ")]


def killed_after(process: subprocess.Popen[str], steps: int, seconds: float) -> int:
    """The last step that was heard of before both ranks were killed."""
    assert process.stdout is not None
    heard = 0
    for line in process.stdout:
        if line.startswith("step "):
            heard, steps = int(line.split()[1]), steps - 1
        if steps == 0:
            break
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return heard


@pytest.mark.faults
def test_killed_at_random_moments_the_curve_is_the_same_to_the_bit(tmp_path: Path) -> None:
    whole = start(tmp_path, "whole")
    steps = steps_of(whole)
    assert whole.wait() == 0, said(tmp_path, "whole").read_text()[-4000:]
    assert steps == list(range(1, 121))
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)  # pytest shows it when the test fails
    chance, last = random.Random(seed), 0
    for _ in range(KILLS):
        # Anywhere in a step, or in the writing of a checkpoint: a step takes some hundredths of a second.
        last = killed_after(start(tmp_path, "killed"), chance.randint(2, 7), chance.uniform(0, 0.1))
    assert 2 <= last < 120
    ended = start(tmp_path, "killed")
    left = steps_of(ended)
    assert ended.wait() == 0, said(tmp_path, "killed").read_text()[-4000:]
    # It went on from a checkpoint.
    assert left == list(range(left[0], 121))
    assert left[0] > 1
    one, two = (
        [
            (r["step"], r["loss"], r["gradient_norm"])
            for r in read_telemetry(Path(job.work) / "telemetry.jsonl")
        ]
        for job in (job_of(tmp_path, "whole"), job_of(tmp_path, "killed"))
    )
    assert two == one
    weights = [
        load_encoder(str(tmp_path / f"{name}.out"), device="cpu").state_dict() for name in ("whole", "killed")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
