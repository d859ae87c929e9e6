from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from ray.exceptions import AuthenticationError

from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import ResourceError
from xalign_dist.runtime.resources import Resources
from xalign_dist.runtime.session import join_error, ray_session

MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.1.0
    Python: 3.10.2
This process on node 10.0.0.2 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"nothing answers at 127\.0\.0\.1:1 .*refused.*\n.*check host and port"),
        ("no-such-host.invalid:6379", r"nothing answers at no-such-host"),
        ("127.0.0.1", r"'127\.0\.0\.1' is no Ray address\n.*HOST:6379"),
        ("http://127.0.0.1:8265/", r"is no Ray address"),
        ("127.0.0.1:99999", r"nothing answers"),
    ],
)
def test_a_wrong_address_is_said_at_once(address: str, message: str, tmp_path: Path) -> None:
    started = time.monotonic()
    with (
        pytest.raises(ResourceError, match=message),
        ray_session(RuntimeConfig(address=address), str(tmp_path / "log")),
    ):
        raise AssertionError("joined nothing")
    assert time.monotonic() - started < 8


def test_other_versions_are_named_on_both_sides() -> None:
    error = str(join_error("head:6379", RuntimeError(MISMATCH)))
    assert (
        "the cluster at head:6379 has Ray 2.1.0, Python 3.10.2; this machine has Ray 2.60.0, Python 3.11.7"
        in error
    )
    assert "constraints.txt" in error


def test_no_token_and_a_wrong_token_name_the_token() -> None:
    missing = join_error(
        "head:6379", AuthenticationError("Token authentication is enabled but no token. See x.")
    )
    assert "wants a token: Token authentication is enabled but no token\n" in str(missing)
    wrong = join_error("head:6379", ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"))
    assert "wrong or expired token" in str(wrong)
    assert all("RAY_AUTH_TOKEN" in str(e) for e in (missing, wrong))


def test_a_port_of_something_else_is_not_taken_for_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        from xalign_dist.runtime.session import _answers

        _answers(f"127.0.0.1:{server.getsockname()[1]}")


def test_embedding_shares_a_gpu_as_training_does() -> None:
    gpu, none = Resources(8, 2, 1), Resources(8, 0, 1)
    shares = [gpu.embed_gpus(RuntimeConfig(gpus_per_worker=g)) for g in (None, 0.25, 2)]
    assert shares == [1.0, 0.25, 1.0]
    assert none.embed_gpus(RuntimeConfig()) == 0.0
