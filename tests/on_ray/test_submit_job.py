from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient

from jobs.submit import Submission, connect, follow, submit
from xalign_dist.errors import ResourceError

pytestmark = pytest.mark.ray


class _Shell(Submission):
    """A request whose entry point is a script: what is tested is submitting, not the pipeline."""

    @property
    def entrypoint(self) -> str:
        return "python job.py"


@pytest.fixture(scope="module")
def client() -> Iterator[JobSubmissionClient]:
    """A head of its own, since jobs need a dashboard; ended by its process id."""
    folder = tempfile.mkdtemp(prefix="xt-job-", dir="/tmp")
    gcs, dashboard, ray_client, agent = _free_ports(4)
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2",
        f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={ray_client}",
        f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder}", "--disable-usage-stats",
        "--object-store-memory=100000000",
    ]  # fmt: skip
    # RAY_TMPDIR keeps the note "this is the latest cluster" away from everybody else's ray.init().
    environment = {
        **os.environ,
        "RAY_TMPDIR": folder,
        "RAY_AUTH_MODE": "disabled",
        "RAY_worker_niceness": "0",
    }
    # The pipe closes when this process ends, however it ends: then the whole group goes with it.
    watched = ["sh", "-c", '"$@" & cat; kill -KILL 0', "sh", *command]
    head = subprocess.Popen(
        watched,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield _wait_for(f"http://127.0.0.1:{dashboard}")
    finally:
        # Seen: a blocked `ray start` was still there 20 s after SIGTERM, its raylet gone.
        os.killpg(head.pid, signal.SIGKILL)
        head.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _wait_for(address: str) -> JobSubmissionClient:
    deadline = time.monotonic() + 90
    while True:
        try:
            return connect(address)
        except ResourceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


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
