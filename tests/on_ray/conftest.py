"""One small Ray cluster for all tests in this folder; it ends with the last of them.

The folder is a package because pytest ends a package's fixture there, and a folder's only with the
session: tests that come later have to find no Ray connected.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.job_submission import JobSubmissionClient
from ray_head import ray_head

from jobs.submit import connect


@pytest.fixture(scope="package")
def ray_session() -> Iterator[None]:
    # Ray runs its workers at nice 15: beside other work on the machine a test would wait for minutes.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Under /tmp: sockets live there, and a Unix socket's path may have 107 bytes.
    folder = tempfile.mkdtemp(prefix="xt-ray-", dir="/tmp")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _temp_dir=folder,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def client() -> Iterator[JobSubmissionClient]:
    """A head of the module's own, since jobs need a dashboard. Token authentication is on."""
    # The token that `ray get-auth-token --generate` made, or a test's ray.init() before this one.
    home = Path.home() / ".ray" / "auth_token"
    if not home.exists():
        home.parent.mkdir(mode=0o700, exist_ok=True)
        home.write_text(secrets.token_hex(32))
        home.chmod(0o600)
    # Jobs are started as `python -m jobs.VERB`: with this python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with ray_head({"RAY_AUTH_MODE": "token", "PATH": path}) as head:
        yield connect(head.dashboard)
