"""Trials of a small encoder share a GPU, also while they are judged.

There is no GPU here: Ray is told of one, places actors on it and keeps the accounts. That torch then
computes there is what this cannot show.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(300)]

DRIVER = """
import sys, tempfile, types
from pathlib import Path
import ray
from tuning import objective
from tuning.shares import limits, trial_runtime, with_gpus
from tuning.space import Space
from tuning.summary import write_summary
from tuning.sweep import Sweep
from xalign_dist.config import RunConfig
from xalign_dist.encoder import load_encoder, save_encoder
from xalign_dist.runtime.resources import cluster_resources

MODEL = "builtin:e5-small?layers=1"
folder = Path(sys.argv[1])

def judge(overrides, out, report):
    import time

    free = []

    def watched(embed, pairs):
        embed(["a"])  # its actor has its place
        for _ in range(40):
            free.append(ray.available_resources().get("GPU", 0.0))
            time.sleep(0.05)
        return 0.5

    objective.retrieval_accuracy = watched
    context = types.SimpleNamespace(
        run=types.SimpleNamespace(arm=lambda name, number: folder),
        config=RunConfig.model_validate({"encoder": {"model": MODEL}, "runtime": given}),
        resources=cluster_resources(),
    )
    accuracy = objective.dev_accuracy(context, types.SimpleNamespace(dev=None), 1)
    return {"dev_accuracy": accuracy, "least": min(free), "most": max(free)}

if __name__ == "__main__":
    grid = {"grid": [8, 16, 32, 64]}
    space = Space.model_validate({"parameters": {"training.batch_pairs": grid}})
    save_encoder(load_encoder(MODEL), str(folder / "model"))
    with tempfile.TemporaryDirectory(prefix="xt-", dir="/tmp") as temp:
        ray.init(num_cpus=8, num_gpus=1, include_dashboard=False, _temp_dir=temp, log_to_driver=False)
        settings = RunConfig.model_validate({"encoder": {"model": MODEL}})
        resources = with_gpus(space, settings, cluster_resources())
        given, most = trial_runtime(space, settings, resources), limits(space, settings, resources)
        sweep = Sweep(space, judge, str(folder / "sweep"), limits=most)
        write_summary(sweep.search(), space, None, folder / "sweep")
        ray.shutdown()
    print(most.concurrent)
"""


def test_four_small_trials_are_judged_on_a_quarter_of_a_gpu_each(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER, "utf-8")
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.split()[-1] == "4"
    trials = json.loads((tmp_path / "sweep" / "trials.json").read_text())["trials"]
    assert [t["error"] for t in trials] == [""] * 4
    free = [t["metrics"] for t in trials]
    assert all(f["most"] <= 0.75 for f in free), "each holds a quarter while it embeds"
    assert min(f["least"] for f in free) <= 0.5, "they do so beside each other"
    assert {round(4 * f[key], 6) % 1 for f in free for key in ("least", "most")} == {0.0}
