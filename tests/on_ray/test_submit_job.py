from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import django
import pytest
import yaml
from ray.job_submission import JobSubmissionClient
from ray_head import ray_head, ray_node

from jobs.following import follow
from jobs.packing import LIMIT_BYTES
from jobs.submit import SAFE, Submission, _existing, connect, submit

pytestmark = pytest.mark.ray

REPO = Path(__file__).parents[2]
LAYER = "builtin:e5-small?layers=1"
GERMAN = Path(django.__file__).parent / "contrib" / "admin" / "locale" / "de" / "LC_MESSAGES" / "django.po"
CONFIG: dict[str, Any] = {
    "corpora": [{"path": str(GERMAN), "src_lang": "en", "tgt_lang": "de"}],
    "encoder": {"model": LAYER},
    "scoring": {"reference": LAYER},
    "mining": {"second_view": "none"},
    "training": {"steps": 60, "batch_pairs": 16, "checkpoint_every": 10},
    "rounds": {"count": 1},
    "evaluation": {"baselines": [], "bootstrap": 100, "permutations": 100},
    "runtime": {"train_workers": 0},
}


class _Shell(Submission):
    """A request whose entry point is a script: what is tested is submitting, not the pipeline."""

    @property
    def entrypoint(self) -> str:
        return "python job.py"


def test_twice_attaches_and_a_failure_is_started_again(
    client: JobSubmissionClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = tmp_path / "mended"
    code = tmp_path / "code"
    code.mkdir()
    (code / "job.py").write_text(
        "import pathlib, sys\n"
        "print('said by the job')\n"
        f"sys.exit(0 if pathlib.Path({str(flag)!r}).exists() else 3)\n"
    )
    request = _Shell("run", ("--out", "runs/one"), cpus=0.1, folder=code)

    first, started = submit(client, request)
    assert started
    assert follow(client, first) == 3
    printed = capsys.readouterr()
    assert "said by the job" in printed.out
    assert "FAILED: " in printed.err
    assert "said by the job" not in printed.err

    flag.touch()
    second, started = submit(client, request)
    assert started
    assert (first, second) == (f"{request.name}-1", f"{request.name}-2")
    assert submit(client, request) == (second, False)
    assert follow(client, second) == 0
    assert submit(client, request) == (second, False)
    shown = client.get_job_info(second).metadata
    assert shown is not None
    assert request.metadata.items() <= shown.items()
    assert (shown["verb"], shown["run_directory"]) == ("run", "runs/one")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("arguments", "more", "said"),
    [
        (["run", "--out", "/runs/large"], {}, r"movie\.bin \(200\.0 MiB\)"),
        (
            ["score", "--pairs", "texts.parquet", "--out", "/runs/scored"],
            {},
            r"would not find texts\.parquet",
        ),
        (["sweep", "c.yaml", "s.yaml", "--out", "s3://bucket/runs/one"], {}, "writes to a file system"),
        (["run", "--out", "/runs/one", "--address", "http://127.0.0.1:9"], {}, "no job server at"),
        (["run", "--out", "/runs/one"], {"RAY_AUTH_TOKEN": "d" * 64}, "refuses the token"),
    ],
    ids=["large", "inputs", "uri", "address", "token"],
)
def test_a_refusal_comes_soon_and_nothing_is_sent(
    client: JobSubmissionClient, tmp_path: Path, arguments: list[str], more: dict[str, str], said: str
) -> None:
    (tmp_path / "texts.parquet").write_text("not sent")
    if "/runs/large" in arguments:
        with (tmp_path / "movie.bin").open("wb") as file:
            file.truncate(LIMIT_BYTES + 1)
    jobs = {job.submission_id for job in client.list_jobs()}
    refused = subprocess.run(
        [sys.executable, "-m", "jobs.submit", "--address", client.get_address(), *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO), **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert re.search(said, refused.stderr), refused.stderr
    assert "remedy: " in refused.stderr
    assert {job.submission_id for job in client.list_jobs()} == jobs


def test_status_and_stop_find_the_job_and_no_secret_goes_along(
    client: JobSubmissionClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.py").write_text(
        "import os, time\nprint(sorted(os.listdir()), flush=True)\ntime.sleep(600)\n"
    )
    (tmp_path / ".env").write_text("PASSWORD=secret")
    (tmp_path / "deploy.pem").write_text("secret")
    request = _Shell("run", ("--out", "runs/two"), cpus=0.1, folder=tmp_path)
    name, _ = submit(client, request)
    deadline = time.monotonic() + 120
    # The log says "python job.py" before the job says what it finds.
    while "[" not in (said := client.get_job_logs(name).partition("python job.py\n")[2]):
        assert time.monotonic() < deadline, client.get_job_logs(name)
        time.sleep(0.5)
    assert said.strip() == "['job.py', 'jobs', 'tuning', 'xalign_dist']"
    assert _existing(client, request, "status") == 0
    assert f"{name} RUNNING" in capsys.readouterr().out
    _existing(client, request, "stop")
    assert f"{name} STOPPED" in capsys.readouterr().out
    assert client.get_job_status(name) == "STOPPED"
    again, started = submit(client, request)
    assert started
    assert again == f"{request.name}-2"
    client.stop_job(again)


MARKETS = """
import json, ray
ray.init(log_to_driver=False)
print("markets", json.dumps({n["NodeID"]: n["Labels"]["xalign/market"] for n in ray.nodes()}))
"""


@pytest.mark.faults
def test_a_driver_waits_for_a_node_that_may_not_be_taken_back(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(MARKETS)
    request = _Shell("run", ("--out", "/runs/safe"), labels=SAFE, folder=tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"RAY_AUTH_MODE": "disabled", "PATH": path}
    with ray_head(environment, options=("--labels=xalign/market=spot",)) as head:
        client = connect(head.dashboard)
        name, _ = submit(client, request)
        time.sleep(10)
        assert client.get_job_status(name) == "PENDING"
        with ray_node(head, environment, ("--labels=xalign/market=on-demand",)):
            assert follow(client, name) == 0, client.get_job_info(name).message
            log = client.get_job_logs(name).partition("markets ")[2]
            markets = json.loads(log.splitlines()[0])
            assert sorted(markets.values()) == ["on-demand", "spot"]
            node = client.get_job_info(name).driver_node_id
            assert node is not None
            assert markets[node] == "on-demand"


@pytest.mark.faults
def test_a_job_ends_on_a_cluster_of_one_cpu(tmp_path: Path) -> None:
    few = {**CONFIG, "training": {"steps": 4, "batch_pairs": 16}, "runtime": {}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(few))
    request = Submission("run", ("run.yaml", "--out", str(tmp_path / "run")), folder=tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with ray_head({"RAY_AUTH_MODE": "disabled", "PATH": path}, cpus=1) as head:
        client = connect(head.dashboard)
        name, _ = submit(client, request)
        assert follow(client, name) == 0, client.get_job_logs(name)
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_killed_job_continues_in_its_run_directory(client: JobSubmissionClient, tmp_path: Path) -> None:
    config, run = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(CONFIG))
    request = Submission("run", (config.name, "--out", str(run)), folder=tmp_path)
    first, _ = submit(client, request)
    done = _stages(client, first, run, "round 1: score")
    driver = client.get_job_info(first).driver_info
    assert driver is not None
    os.kill(int(driver.pid), signal.SIGKILL)
    assert follow(client, first) == 128 + signal.SIGKILL
    assert not (run / "metrics.json").exists(), "it was to die before its end"

    second, started = submit(client, request)
    assert (second, started) == (f"{request.name}-2", True)
    assert follow(client, second) == 0, client.get_job_logs(second)
    log = client.get_job_logs(second)
    for title in ("clean the corpora", "embed with the reference encoder", "round 1: score parallel pairs"):
        assert f"skip  {title}" in log, log
    assert "done  round 1: train on" in log
    now = json.loads((run / "manifest.json").read_text())["stages"]
    assert {name: now[name] for name in done} == done, "what was finished was not made anew"
    assert (run / "report.html").exists()


def _stages(client: JobSubmissionClient, name: str, run: Path, wanted: str) -> dict[str, Any]:
    """The manifest's stages, as soon as ``wanted`` is one."""
    deadline, found = time.monotonic() + 240, {}
    while wanted not in found:
        assert time.monotonic() < deadline, client.get_job_logs(name)
        assert client.get_job_status(name) in {"PENDING", "RUNNING"}, client.get_job_logs(name)
        time.sleep(0.1)
        manifest = run / "manifest.json"
        found = json.loads(manifest.read_text())["stages"] if manifest.exists() else {}
    return dict(found)
