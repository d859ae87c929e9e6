"""One Ray session: embedded on a laptop, joined on a cluster. Nobody else's Ray is touched."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import ResourceError
from xalign_dist.runtime.logs import ray_log_to
from xalign_dist.runtime.resources import Resources, cluster_resources
from xalign_dist.runtime.waiting import check_training

# Ray's sockets live under the temp dir, and a Unix socket path may have 107 bytes.
_TEMP_ROOT_LIMIT = 40

_ANSWER_SECONDS = 5.0
_PROBE_SECONDS = 60.0
AUTHENTICATE = (
    "set RAY_AUTH_MODE=token and put the cluster's token of today into ~/.ray/auth_token or RAY_AUTH_TOKEN"
)

_QUIET = {
    "RAY_DEDUP_LOGS": "1",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_MEMORY_MONITOR": "0",
    # Workers are nice by default, and starve beside whatever else the machine does.
    "RAY_worker_niceness": "0",
    "TOKENIZERS_PARALLELISM": "true",
}


@contextlib.contextmanager
def ray_session(
    config: RuntimeConfig, log_file: str | None = None, *, trains: bool = False
) -> Iterator[Resources]:
    """Join the cluster at ``config.address``, or start an embedded one and end it.

    An already connected process (a sweep's trial, a test's session) is used as it is and
    left running.

    Args:
        config: where, and what is asked for.
        log_file: of Ray's loggers; None: nowhere.
        trains: whether the command comes to train: then its workers must be possible here.

    Raises:
        ResourceError: the address does not answer, refuses the token, or has other versions; or the
            cluster can never give what the config asks for.
    """
    if ray.is_initialized():
        yield _checked(config, trains)
        return
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    temp = _temp_dir()
    with ray_log_to(Path(log_file).resolve() if log_file is not None else Path(temp) / "xalign.log"):
        try:
            _connect(config.address, temp)
            yield _checked(config, trains)
        finally:
            ray.shutdown()
            shutil.rmtree(temp, ignore_errors=True)


def _checked(config: RuntimeConfig, trains: bool) -> Resources:
    if trains:
        check_training(config)
    return cluster_resources(config.min_cpus).now()


def _connect(address: str | None, temp: str) -> None:
    if address is not None:
        _answers(address)
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": False,
    }
    try:
        if address is None:
            ray.init(include_dashboard=False, _temp_dir=temp, **common)
        else:
            ray.init(address=address, **common)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, AuthenticationError) as err:
        raise join_error(address, err) from err


def join_error(address: str | None, err: Exception) -> ResourceError:
    """Why Ray could not be joined, and what to do about just that."""
    where, text = address or "an embedded cluster", str(err).strip()
    if "ersion mismatch" in text:
        found = re.findall(r"(Ray|Python): (\S+)", text)
        half = len(found) // 2
        there, here = (", ".join(f"{a} {b}" for a, b in part) for part in (found[:half], found[half:]))
        return ResourceError(
            f"the cluster at {where} has {there}; this machine has {here}",
            "install the cluster's versions here (constraints.txt pins ours), or start a cluster with these",
        )
    if isinstance(err, AuthenticationError):
        return ResourceError(
            f"the cluster at {where} wants a token: {text.splitlines()[0].split('.')[0]}", AUTHENTICATE
        )
    if address is not None and "Failed to connect" in text:
        # Somebody listens there, see _answers; Ray does not say which it is.
        return ResourceError(
            f"the cluster at {where} turned this machine away: wrong or expired token, or no Ray there",
            AUTHENTICATE,
        )
    return ResourceError(
        f"cannot start or join Ray at {where}: {text.splitlines()[0] if text else type(err).__name__}",
        "check the address; `xalign doctor` looks at this machine",
    )


def _answers(address: str) -> None:
    """Say at once that nobody listens; Ray itself would try for half a minute.

    Raises:
        ResourceError: not host:port, or no answer.
    """
    if address in ("auto", "local"):
        return
    found = re.fullmatch(r"(?:ray://)?\[?([^/\]]+?)\]?:(\d+)", address)
    if found is None:
        raise ResourceError(
            f"{address!r} is no Ray address", "write HOST:6379, or auto on a machine of the cluster"
        )
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as err:
        raise ResourceError(
            f"nothing answers at {address} ({err})",
            "check host and port; behind a tunnel send a job: xalign submit --address http://HOST:8265",
        ) from None


def check_visible(root: Path, remedy: str) -> None:
    """Every node sees what this process writes into ``root``.

    Args:
        root: a folder.
        remedy: of the error.

    Raises:
        ResourceError: some do not, e.g. a folder of this machine's own disk.
    """
    if _one_node():
        return
    probe = root / f".probe-{uuid.uuid4().hex}"
    probe.touch()
    try:
        _check(probe, root, remedy)
    finally:
        probe.unlink(missing_ok=True)


def check_seen(path: Path, remedy: str) -> None:
    """Every node sees ``path``, which is there on this one.

    Raises:
        ResourceError: some do not.
    """
    if not _one_node():
        _check(path, path, remedy)


def _one_node() -> bool:
    return sum(n["Alive"] for n in ray.nodes()) < 2


def _check(path: Path, named: Path, remedy: str) -> None:
    try:
        asked = {
            n["NodeManagerAddress"]: _sees.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)
            ).remote(str(path))
            for n in ray.nodes()
            if n["Alive"]
        }
        blind = [host for host, answer in asked.items() if not ray.get(answer, timeout=_PROBE_SECONDS)]
    except (RayError, TimeoutError):
        return  # a node that went away just now says nothing about the folder
    if blind:
        raise ResourceError(f"{named}: not seen from {', '.join(sorted(blind))}", remedy)


@ray.remote(num_cpus=0)
def _sees(path: str) -> bool:
    return Path(path).exists()


def dashboard_url() -> str | None:
    """Of the connected Ray; None: it has no dashboard (an embedded one)."""
    url = ray._private.worker.get_dashboard_url()
    return f"http://{url}" if url else None


def sliver() -> float:
    """CPUs that an actor reserves which must not keep others from any.

    None on one machine. On several a thousandth: an actor without any could be put on a head that is
    to take no work, and a node with nothing reserved may be taken for idle.
    """
    return 0.001 if sum(n["Alive"] for n in ray.nodes()) > 1 else 0.0


def _temp_dir() -> str:
    root = tempfile.gettempdir()
    if len(root) > _TEMP_ROOT_LIMIT:
        root = "/tmp"  # noqa: S108 - only the folder in it is ours, made by mkdtemp
    return tempfile.mkdtemp(prefix="xalign-ray-", dir=root)
