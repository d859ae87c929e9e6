"""A real grid: 12 trials on the quickstart's text at reduced steps, from `xalign sweep` to its best config.

Learning rate, batch size and temperature (the grid of the paper, coarser), an encoder of four layers; the
two best and the default under two seeds, and the winner once against the default on the test set.

    python benchmarks/sweep_grid.py [--quick] [--json FILE] [--out DIR]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import yaml
from rich.console import Console
from rich.markdown import Markdown

from tuning.knobs import knobs
from tuning.statement import headline
from xalign_dist.config import dump_config, load_config
from xalign_dist.pipeline.quickstart import quickstart_config
from xalign_dist.pipeline.quickstart_data import build_quickstart_data

STEPS, QUICK_STEPS = 48, 8
CONCURRENT = 2
SETTINGS = [
    "scoring.reference=builtin:e5-small?layers=4",
    "rounds.count=1",
    "training.batch_pairs=32",
    "runtime.train_workers=0",
    "evaluation.bootstrap=1000",
    "evaluation.permutations=1000",
]
SPACE: dict[str, Any] = {
    "fixed": {"objective.temperature.enabled": True},
    "finalists": 2,
    "seeds": 2,
    "parameters": {
        "training.learning_rate": {"grid": [0.00005, 0.0002, 0.0008]},
        "training.batch_pairs": {"grid": [32, 64]},
        "objective.temperature.start": {"grid": [0.05, 0.1]},
    },
}


def main() -> None:
    """Prepare, sweep, read what it found."""
    parser = common.parser(__doc__)
    parser.add_argument("--out", type=Path, help="keep the sweep there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = (args.out or Path(folder)).resolve()
        steps = QUICK_STEPS if args.quick else STEPS
        seconds = sweep(home, steps)
        rows = read(home, seconds)
    common.finish(f"A grid of 12 trials of {steps} steps", rows, args.json)


def sweep(home: Path, steps: int) -> float:
    """Run it as one would; the seconds that it took."""
    (home / "data").mkdir(parents=True, exist_ok=True)
    data = build_quickstart_data(str(home / "data"), 0)
    config = quickstart_config(data, 0, [*SETTINGS, f"training.steps={steps}"])
    (home / "run.yaml").write_text(dump_config(config), "utf-8")
    (home / "space.yaml").write_text(yaml.safe_dump(SPACE), "utf-8")
    command = ["sweep", str(home / "run.yaml"), str(home / "space.yaml"), "--out", str(home / "sweep")]
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "xalign_dist", *command, "--max-concurrent", str(CONCURRENT)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return time.monotonic() - started


def read(home: Path, seconds: float) -> list[common.Row]:
    """The rows of the benchmark, from the files that the sweep left."""
    out = home / "sweep"
    found = json.loads((out / "trials.json").read_text("utf-8"))
    Console().print(Markdown((out / "trials.md").read_text("utf-8")))
    Console().print(*found["statement"], sep="\n")
    assert load_config(out / "best.yaml").corpora
    trials = found["trials"]
    finalists = {f["name"]: f["mean"] for f in found["finalists"]}
    winner = found["finalists"][0]
    rows = [
        common.Row("dev accuracy: best, default", winner["mean"], finalists["default"], "share", len(trials)),
        common.Row(
            "dev accuracy: best and worst trial", trials[0]["value"], trials[-1]["value"], "share", 12
        ),
        common.Row("the sweep", seconds, None, "s", len(trials)),
        common.Row("a trial", sum(t["seconds"] for t in trials) / len(trials), None, "s", len(trials)),
    ]
    head = headline(found["comparisons"])
    if head is not None:
        ends = zip(("low", "high"), head.gain_interval or (), strict=False)
        said = [("gain", head.gain), *((f"gain, {end} end of 95 %", value) for end, value in ends)]
        rows += [common.Row(f"test set, {name}", value, None, "share", head.n) for name, value in said]
    for knob in knobs(trials, list(found["parameters"]), found["mode"]):
        if knob.explained is not None:
            name = f"variance by {knob.name}, best {knob.best}"
            rows.append(common.Row(name, knob.explained, None, "share", len(trials)))
    return rows


if __name__ == "__main__":
    main()
