"""One small Ray cluster for all tests in this folder; it ends with the last of them.

The folder is a package because pytest ends a package's fixture there, and a folder's only with the
session: tests that come later have to find no Ray connected.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
import ray


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
