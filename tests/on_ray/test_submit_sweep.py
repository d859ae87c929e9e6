"""A sweep as a job: its driver is killed, the same submission goes on, and no finished trial runs again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import django
import pytest
import yaml
from ray.job_submission import JobSubmissionClient

from jobs.following import follow
from jobs.submit import Submission, submit
from xalign_dist.config import load_config

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

LAYER = "builtin:e5-small?layers=1"
RATES = [0.0001, 0.001]
SPACE = {
    "finalists": 0,
    "max_concurrent": 1,
    "parameters": {"training.learning_rate": {"grid": RATES}},
}
GERMAN = Path(django.__file__).parent / "contrib" / "admin" / "locale" / "de" / "LC_MESSAGES" / "django.po"
CONFIG: dict[str, Any] = {
    "corpora": [{"path": str(GERMAN), "src_lang": "en", "tgt_lang": "de"}],
    "encoder": {"model": LAYER},
    "scoring": {"reference": LAYER},
    "mining": {"second_view": "none"},
    "training": {"steps": 40, "batch_pairs": 16},
    "rounds": {"count": 1},
    "evaluation": {"bootstrap": 100, "permutations": 100},
    "runtime": {"train_workers": 0},
}


def _ended(out: Path) -> list[Path]:
    """Records of trials that have their final value."""
    records = sorted((out / "records").glob("*.json"))
    return [r for r in records if json.loads(r.read_text())["final"] is not None]


def test_a_killed_sweep_goes_on_by_the_same_submission(client: JobSubmissionClient, tmp_path: Path) -> None:
    project, out = tmp_path / "project", tmp_path / "sweep"
    project.mkdir()
    (project / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    (project / "space.yaml").write_text(yaml.safe_dump(SPACE))
    request = Submission("sweep", ("run.yaml", "space.yaml", "--out", str(out)), folder=project)
    first, _ = submit(client, request)
    deadline = time.monotonic() + 400
    while not (done := _ended(out)):
        assert time.monotonic() < deadline, client.get_job_logs(first)
        assert client.get_job_status(first) in {"PENDING", "RUNNING"}, client.get_job_logs(first)
        time.sleep(0.05)
    driver = client.get_job_info(first).driver_info
    assert driver is not None
    os.kill(int(driver.pid), signal.SIGKILL)
    assert follow(client, first) == 128 + signal.SIGKILL
    time.sleep(3)  # what its workers still write
    (record,) = done
    assert _ended(out) == [record], "it was killed too late to tell anything"
    assert not (out / "best.yaml").exists()
    before = record.read_bytes(), record.stat().st_mtime_ns

    second, started = submit(client, request)
    assert (second, started) == (f"{request.name}-2", True)
    assert follow(client, second) == 0, client.get_job_logs(second)
    assert client.get_job_status(second) == "SUCCEEDED"
    assert (record.read_bytes(), record.stat().st_mtime_ns) == before, "a finished trial ran again"
    trials = json.loads((out / "trials.json").read_text())["trials"]
    assert sorted(t["parameters"]["training.learning_rate"] for t in trials) == RATES
    assert all(t["ended"] and t["value"] is not None for t in trials)
    assert load_config(out / "best.yaml").training.learning_rate in RATES
    assert submit(client, request) == (second, False)
