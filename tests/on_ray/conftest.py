"""One small Ray cluster for all tests on Ray; it is this session's own and ends with it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
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
