"""Clusters that cannot be joined: each is one clear error, soon, and Ray is not left connected."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_head import Head, ray_head

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

TOKEN = "a" * 64
JOIN = """
import sys
from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import XalignError
from xalign_dist.runtime.session import ray_session
try:
    with ray_session(RuntimeConfig(address=sys.argv[1])) as found:
        print("joined", found.cpus)
except XalignError as err:
    print(type(err).__name__, err)
"""


def _join(address: str, home: Path, **environment: str) -> str:
    """What a process of its own says: a token is read once in a process."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", JOIN, address],
        env={**clean, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def guarded() -> Iterator[Head]:
    with ray_head({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}) as head:
        yield head


def test_the_right_token_joins(guarded: Head, tmp_path: Path) -> None:
    assert "joined 2" in _join(guarded.address, tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RAY_AUTH_MODE": "token"}, "wants a token: Token authentication is enabled but no"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64}, "wrong or expired token"),
        ({"RAY_AUTH_MODE": "disabled"}, "wrong or expired token"),
    ],
    ids=["none", "expired", "switched-off"],
)
def test_no_token_and_an_expired_one(
    guarded: Head, tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    started = time.monotonic()
    said = _join(guarded.address, tmp_path, **environment)
    assert said.startswith("ResourceError")
    assert message in said
    assert "RAY_AUTH_TOKEN" in said
    assert time.monotonic() - started < 120


@pytest.mark.parametrize(
    ("prelude", "there"),
    [
        ("import ray; ray.__version__ = '2.1.0'", "Ray 2.1.0"),
        (
            "import ray._private.utils as u; u.compute_version_info = lambda: ('2.60.0', '3.10.2')",
            "Python 3.10.2",
        ),
    ],
    ids=["ray", "python"],
)
def test_a_cluster_of_another_version(tmp_path: Path, prelude: str, there: str) -> None:
    with ray_head({"RAY_AUTH_MODE": "disabled"}, prelude=prelude) as head:
        said = _join(head.address, tmp_path, RAY_AUTH_MODE="disabled")
    assert said.startswith("ResourceError")
    assert there in said.split("; this machine has")[0]
    assert "constraints.txt" in said
