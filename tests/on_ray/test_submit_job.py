from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient
from ray_head import ray_head

from jobs.submit import Submission, _existing, connect, follow, submit

pytestmark = pytest.mark.ray


class _Shell(Submission):
    """A request whose entry point is a script: what is tested is submitting, not the pipeline."""

    @property
    def entrypoint(self) -> str:
        return "python job.py"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobSubmissionClient]:
    """A head of its own, since jobs need a dashboard. Token authentication is on."""
    # The token that `ray get-auth-token --generate` made, or a test's ray.init() before this one.
    home = Path.home() / ".ray" / "auth_token"
    if not home.exists():
        home.parent.mkdir(mode=0o700, exist_ok=True)
        home.write_text(secrets.token_hex(32))
        home.chmod(0o600)
    with ray_head({"RAY_AUTH_MODE": "token"}) as head:
        yield connect(head.dashboard)


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
    request = _Shell("run", ("--out", "runs/one"), cpus=0.1)

    first, started = submit(client, request, code)
    assert started
    assert follow(client, first) == 1
    printed = capsys.readouterr()
    assert "said by the job" in printed.out
    assert "FAILED" in printed.err

    flag.touch()
    second, started = submit(client, request, code)
    assert started
    assert (first, second) == (f"{request.name}-1", f"{request.name}-2")
    assert submit(client, request, code) == (second, False)
    assert follow(client, second) == 0
    assert submit(client, request, code) == (second, False)


def test_status_and_stop_find_the_job_and_no_secret_goes_along(
    client: JobSubmissionClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.py").write_text(
        "import os, time\nprint(sorted(os.listdir()), flush=True)\ntime.sleep(600)\n"
    )
    (tmp_path / ".env").write_text("PASSWORD=secret")
    (tmp_path / "deploy.pem").write_text("secret")
    request = _Shell("run", ("--out", "runs/two"), cpus=0.1)
    name, _ = submit(client, request, tmp_path)
    deadline = time.monotonic() + 120
    # The log says "python job.py" before the job says what it finds.
    while "[" not in (said := client.get_job_logs(name).partition("python job.py\n")[2]):
        assert time.monotonic() < deadline, client.get_job_logs(name)
        time.sleep(0.5)
    assert said.strip() == "['job.py']"
    assert _existing(client, request, "status") == 0
    assert f"{name} RUNNING" in capsys.readouterr().out
    _existing(client, request, "stop")
    while client.get_job_status(name) == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert client.get_job_status(name) == "STOPPED"
    again, started = submit(client, request, tmp_path)
    assert started
    assert again == f"{request.name}-2"
    client.stop_job(again)
