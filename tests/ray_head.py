"""A Ray head of a test's own, as `ray start --head` makes it; ended by its process group."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Head:
    """Where it listens: ``address`` for ray.init, ``dashboard`` for jobs."""

    address: str
    dashboard: str
    folder: str


@contextlib.contextmanager
def ray_head(
    environment: Mapping[str, str],
    *,
    prelude: str = "",
    options: tuple[str, ...] = (),
    cpus: int = 2,
    host: str = "127.0.0.1",
    port: int | None = None,
) -> Iterator[Head]:
    """Start a head and wait until its dashboard answers.

    Args:
        environment: beside this process's own, e.g. RAY_AUTH_MODE.
        prelude: Python that runs in the head's process before `ray start`.
        options: of `ray start`.
        cpus: of the head.
        host: address of this machine, as the nodes of the cluster have it.
        port: of the head; None: a free one.
    """
    # Under /tmp: sockets live there, and a Unix socket's path may have 107 bytes.
    folder = tempfile.mkdtemp(prefix="xt-head-", dir="/tmp")
    gcs, dashboard, client, agent = free_ports(4)
    gcs = port or gcs
    script = f"{prelude}\nfrom ray.scripts.scripts import main\nmain()"
    command = [
        sys.executable, "-c", script, "start", "--head", "--block", f"--num-cpus={cpus}", f"--port={gcs}",
        f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder}", "--disable-usage-stats",
        "--object-store-memory=100000000", *options,
    ]  # fmt: skip
    # RAY_TMPDIR keeps the note "this is the latest cluster" away from everybody else's ray.init().
    variables = {**os.environ, "RAY_TMPDIR": folder, "RAY_worker_niceness": "0", **environment}
    # The pipe closes when this process ends, however it ends: then the whole group goes with it.
    watched = ["sh", "-c", '"$@" & cat; kill -KILL 0', "sh", *command]
    with Path(folder, "head.log").open("wb") as log:
        head = subprocess.Popen(
            watched,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(dashboard, Path(folder, "head.log"))
        yield Head(f"{host}:{gcs}", f"http://127.0.0.1:{dashboard}", folder)
    finally:
        # Seen: a blocked `ray start` was still there 20 s after SIGTERM, its raylet gone.
        os.killpg(head.pid, signal.SIGKILL)
        head.communicate()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def ray_node(head: Head, environment: Mapping[str, str], options: tuple[str, ...]) -> Iterator[None]:
    """One more node of ``head``'s cluster on this machine, with one CPU; ``options`` of `ray start`."""
    (agent,) = free_ports(1)
    command = [
        sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block",
        f"--address={head.address}", "--num-cpus=1", f"--dashboard-agent-listen-port={agent}",
        "--disable-usage-stats", "--object-store-memory=100000000", *options,
    ]  # fmt: skip
    variables = {**os.environ, "RAY_TMPDIR": head.folder, "RAY_worker_niceness": "0", **environment}
    with Path(head.folder, "node.log").open("wb") as log:
        node = subprocess.Popen(
            command, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _wait(port: int, log: Path) -> None:
    deadline = time.monotonic() + 280
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except OSError:
            assert time.monotonic() < deadline, log.read_text("utf-8", "replace")[-2000:]
            time.sleep(0.3)
        else:
            return
