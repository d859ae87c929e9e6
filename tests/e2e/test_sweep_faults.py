"""`xalign sweep` when a trial's process is killed, and when every trial fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

LAYER = "builtin:e5-small?layers=1"
CONFIG = {
    "corpora": [{"path": "pairs.jsonl", "source": "tiny"}],
    "encoder": {"model": LAYER},
    "scoring": {"reference": LAYER},
    "mining": {"second_view": "none"},
    "training": {"steps": 40, "batch_pairs": 16},
    "rounds": {"count": 2},
    "evaluation": {"bootstrap": 100, "permutations": 100},
    # Training in worker processes of their own, as on GPUs: they have to end with a trial that is killed.
    "runtime": {"train_workers": 1},
}
WORDS = ["house", "river", "letter", "window", "garden", "street", "mother", "winter", "doctor", "bridge"]
WOERTER = ["Haus", "Fluss", "Brief", "Fenster", "Garten", "Straße", "Mutter", "Winter", "Arzt", "Brücke"]
TRIALS = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("faults")
    rows = [
        {
            "src": f"the {WORDS[a]} and the {WORDS[b]}",
            "tgt": f"{WOERTER[a]} und {WOERTER[b]}",
            "src_lang": "en",
            "tgt_lang": "de",
        }
        for a in range(10)
        for b in range(10)
        if a != b
    ]
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (home / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    return home


def _sweep(place: Path, out: str, parameters: dict[str, Any], **changes: Any) -> subprocess.Popen[bytes]:
    (place / f"{out}.yaml").write_text(
        yaml.safe_dump({"finalists": 0, "parameters": parameters, "max_concurrent": 1, **changes})
    )
    return subprocess.Popen(
        [sys.executable, "-m", "xalign_dist", "sweep", "c.yaml", f"{out}.yaml", "--out", out],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=(place / f"{out}.log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _until(found: Callable[[], Any], sweep: subprocess.Popen[bytes], log: Path) -> Any:
    deadline = time.monotonic() + 400
    while not (value := found()):
        assert sweep.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def _stages(run: Path) -> dict[str, Any]:
    manifest = run / "manifest.json"
    return json.loads(manifest.read_text())["stages"] if manifest.exists() else {}


def _record(out: Path, name: str) -> dict[str, Any]:
    file = out / "records" / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def _process(out: Path, name: str) -> int:
    """The one that runs the trial: it holds the lock of its record."""
    lock = str(out / "records" / f"{name}.lock")

    def holds(pid: Path) -> bool:
        try:
            return any(str(fd.readlink()) == lock for fd in (pid / "fd").iterdir())
        except OSError:  # it ended, or is not ours to see
            return False

    (found,) = (int(pid.name) for pid in Path("/proc").iterdir() if pid.name.isdigit() and holds(pid))
    return found


def test_a_killed_trial_goes_on_from_its_last_stage_and_no_finished_trial_runs_again(place: Path) -> None:
    out, log = place / "killed", place / "killed.log"
    rates = {"training.learning_rate": {"grid": [0.00001, 0.0001, 0.001]}}
    sweep = _sweep(place, "killed", rates)

    def halfway() -> Path | None:
        """The run of the second trial, when its first round is done and its second is not."""
        runs = list((out / "runs").glob("[!.]*")) if (out / "runs").exists() else []
        ended = [run for run in runs if _record(out, run.name).get("final")]
        trained = [run for run in runs if "adaptive: round 1" in _stages(run) and run not in ended]
        return trained[0] if ended and trained else None

    run = _until(halfway, sweep, log)
    (first,) = (other for other in (out / "runs").glob("[!.]*") if _record(out, other.name).get("final"))
    os.kill(_process(out, run.name), signal.SIGKILL)
    stages, finished = _stages(run), (out / "records" / f"{first.name}.json").read_bytes()
    assert "adaptive: round 2" not in stages
    assert sweep.wait(timeout=400) == 0, log.read_text()[-2000:]

    found = json.loads((out / "trials.json").read_text())
    assert [(t["ended"], t["error"], t["value"] is None) for t in found["trials"]] == [
        (True, "", False)
    ] * TRIALS
    assert "adaptive: round 2" in _stages(run)
    # With times and seconds: what was done by then was not done again.
    assert _stages(run).items() >= stages.items()
    assert (out / "records" / f"{first.name}.json").read_bytes() == finished


def test_a_sweep_whose_trials_all_fail_ends_with_the_reason_and_a_remedy(place: Path) -> None:
    out, log = place / "failing", place / "failing.log"
    sweep = _sweep(place, "failing", {"encoder.model": {"grid": [f"/no/such/model-{n}" for n in range(20)]}})
    assert sweep.wait(timeout=400) not in (0, None), log.read_text()[-2000:]
    said = " ".join(log.read_text().split())
    assert "gave a value of dev_accuracy: " in said
    assert "/no/such/model-" in said
    assert "mend the cause and start the same command again" in said
    assert "Traceback" not in said
    assert not (out / "best.yaml").exists()
    # Three that fail and none that does not: the others are not worth starting.
    assert 3 <= len(list((out / "records").glob("*.json"))) < 8
