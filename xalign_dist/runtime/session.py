"""One Ray session: embedded on a laptop, joined on a cluster. Nobody else's Ray is touched."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import ResourceError

# Ray's sockets live under the temp dir, and a Unix socket path may have 107 bytes.
_TEMP_ROOT_LIMIT = 40

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


@dataclass(frozen=True)
class Resources:
    """What the cluster can give. ``cpus`` and ``gpus`` are totals over all nodes."""

    cpus: int
    gpus: int
    nodes: int

    def embed_actors(self, config: RuntimeConfig) -> int:
        """Embedding actors: as configured, else one per GPU, else one per 8 CPUs.

        Without GPUs a few fat actors beat many thin ones, because one forward pass
        already uses all the cores that torch is given.
        """
        if config.embed_actors is not None:
            return config.embed_actors
        return max(1, self.gpus or self.cpus // 8)

    def shards(self, configured: int | None) -> int:
        """Index shards: as configured, else two per node (one laptop: 2)."""
        return configured or max(2, 2 * self.nodes)


@contextlib.contextmanager
def ray_session(config: RuntimeConfig, log_file: str | None = None) -> Iterator[Resources]:
    """Join the cluster at ``config.address``, or start an embedded one and end it.

    An already connected process (a job's driver, a test's session) is used as it is and
    left running.

    Raises:
        ResourceError: the address does not answer, refuses the token, or has other versions.
    """
    if ray.is_initialized():
        yield cluster_resources()
        return
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    temp = _temp_dir()
    _log_to_file(log_file, temp)
    try:
        _connect(config.address, temp)
        yield cluster_resources()
    finally:
        ray.shutdown()
        shutil.rmtree(temp, ignore_errors=True)


def _connect(address: str | None, temp: str) -> None:
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
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as err:
        where = address or "an embedded cluster"
        raise ResourceError(
            f"cannot start or join Ray at {where}: {str(err).splitlines()[0]}",
            "check the address, the token (RAY_AUTH_TOKEN) and that Ray's version is the same there",
        ) from err


def cluster_resources() -> Resources:
    """Totals over the connected cluster's live nodes."""
    total = ray.cluster_resources()
    nodes = [n for n in ray.nodes() if n["Alive"]]
    return Resources(int(total.get("CPU", 1)), int(total.get("GPU", 0)), max(1, len(nodes)))


def _temp_dir() -> str:
    root = tempfile.gettempdir()
    if len(root) > _TEMP_ROOT_LIMIT:
        root = "/tmp"  # noqa: S108 - only the folder in it is ours, made by mkdtemp
    return tempfile.mkdtemp(prefix="xalign-ray-", dir=root)


def _log_to_file(log_file: str | None, temp: str) -> None:
    """Send the loggers of Ray and DeepSpeed to a file, away from the console."""
    import ray.data  # sets up its console handler when imported, so that has to come first

    path = Path(log_file).resolve() if log_file is not None else Path(temp) / "xalign.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # Ray announces at warning level that it does the right thing: token authentication is on.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    for name in ("ray", ray.data.__name__, "ray.train", "ray.tune", "deepspeed", "DeepSpeed"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
