"""Waiting for nodes that an autoscaler adds: what is missing, and for how long; not for what cannot come."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private.state import available_resources_per_node
from ray.exceptions import RayError
from ray.util.client import ray as client
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import Preempted
from xalign_dist.runtime.demand import Demand, Group, refuse, room, training_demand

_log = logging.getLogger(__name__)

_PROC = Path("/proc")
_HEAD = "node:__internal_head__"
_PROBE_SECONDS = 60.0
_LOOK_SECONDS = 0.5
FIRST_WORD, NEXT_WORD = 2.0, 30.0
"""Seconds until a wait is spoken of, and between two words about it."""

Say = Callable[[str], None]


def wait_for(demand: Demand, say: Say = _log.warning, stop: threading.Event | None = None) -> float:
    """Come back when the nodes have free room for ``demand``; the autoscaler is asked for what is missing.

    Args:
        demand: what is needed; it is not held afterwards.
        say: told what is missing and for how long, once in half a minute, and when it has come.
        stop: ends the wait.

    Returns:
        Seconds waited.

    Raises:
        ResourceError: neither the nodes nor the groups of the cluster can ever give it.
        Preempted: ``stop`` was set.
    """
    if room(demand, _nodes(free=True)) >= demand.count:
        return 0.0
    live, groups = _nodes(), None
    if room(demand, live) < demand.count:
        groups = node_groups()
        refuse(demand, live, groups)
    started = time.monotonic()
    # A reservation asks the autoscaler, counts what is there, and goes with this process, however that ends.
    bundle, labels = dict(demand.resources), dict(demand.labels)
    reservation = placement_group(
        [bundle] * demand.count, bundle_label_selector=[labels] * demand.count if labels else None
    )
    try:
        return _watch(reservation, demand, groups, say, stop, started)
    finally:
        remove_placement_group(reservation)


def _watch(
    reservation: Any,
    demand: Demand,
    groups: Sequence[Group] | None,
    say: Say,
    stop: threading.Event | None,
    started: float,
) -> float:
    due, spoken = FIRST_WORD, False
    while not reservation.wait(_LOOK_SECONDS):
        if stop is not None and stop.is_set():
            raise Preempted(f"stopped while waiting for {demand}", "the same command continues")
        passed = time.monotonic() - started
        if passed >= due:
            due, spoken = passed + NEXT_WORD, True
            say(f"{demand.what} waits for {demand}: {_missing(demand, groups)}, for {passed:.0f} s so far")
    passed = time.monotonic() - started
    if spoken:
        say(f"{demand.what} has {demand} after {passed:.0f} s")
    return passed


def _missing(demand: Demand, groups: Sequence[Group] | None) -> str:
    there, free = room(demand, _nodes()), room(demand, _nodes(free=True))
    if there >= demand.count:
        return f"{min(free, demand.count)} of {demand.count} are free, others use the rest"
    growing = [group.name for group in groups or () if group.room(demand)]
    by = f", to be added by group {' or '.join(growing)}" if growing else ""
    return f"the cluster has {there} of {demand.count}{by}"


def check_training(runtime: RuntimeConfig) -> None:
    """Refuse a training that the connected cluster can never give room to, before any stage has run.

    Raises:
        ResourceError: with the reason and the nearest group.
    """
    if runtime.train_workers == 0:
        return
    demand, live = training_demand(runtime, ray.cluster_resources()), _nodes()
    if room(demand, live) < demand.count:
        refuse(demand, live, node_groups())


def _nodes(free: bool = False) -> list[Group]:
    """The live nodes, each a group of its own; with ``free``, what nobody has reserved on them.

    A Ray Client (ray://) is not told what is free: to it nothing is.
    """
    left = available_resources_per_node() if free and not client.is_connected() else {}
    return [
        Group(
            node["NodeManagerAddress"],
            left.get(node["NodeID"], {}) if free else node["Resources"],
            node.get("Labels") or {},
            head=_HEAD in node["Resources"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def node_groups() -> list[Group] | None:
    """Groups that the autoscaler may start; none where there is no autoscaler.

    Ray tells a driver only what is there. The groups stand in the file that the autoscaler on the head
    was started with (`ray up`, `ray start --autoscaling-config`), and are read there.

    Returns:
        None where they are not known: KubeRay keeps them in Kubernetes, a Ray Client does not learn them.
    """
    if client.is_connected():
        return None
    head = next((n["NodeID"] for n in ray.nodes() if n["Alive"] and _HEAD in n["Resources"]), None)
    if head is None:
        return None
    context = ray.get_runtime_context()
    port = context.gcs_address.rpartition(":")[2]
    if context.get_node_id() == head:
        return _groups_here(port)
    there = NodeAffinitySchedulingStrategy(head, soft=False)
    asked = _read_groups.options(scheduling_strategy=there).remote(port)
    try:
        found: list[Group] | None = ray.get(asked, timeout=_PROBE_SECONDS)
    except (RayError, TimeoutError) as err:
        _log.warning("the groups of the cluster cannot be read (%s)", str(err).strip().splitlines()[-1])
        return None
    return found


def _groups_here(port: str) -> list[Group] | None:
    """On the head, whose Ray listens at ``port``. One without /proc is no cloud's, and has no autoscaler."""
    if not _PROC.is_dir():
        return []
    command = _autoscaler(port)
    if command is None:
        return None
    file = next((w.partition("=")[2] for w in command if w.startswith("--autoscaling-config=")), "")
    if not file or file == "None":
        return []
    try:
        return parse_groups(Path(file).expanduser().read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        _log.warning("%s: the groups of the cluster cannot be read (%s)", file, str(err).splitlines()[0])
        return None


_read_groups = ray.remote(num_cpus=0)(_groups_here)


def _autoscaler(port: str) -> list[str] | None:
    """The command line of the autoscaler's process; several Rays may run on one machine."""
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:  # it ended, or is not ours to see
            continue
        script = any(word.endswith("/monitor.py") for word in words)
        if script and any(w.startswith("--gcs-address=") and w.endswith(f":{port}") for w in words):
            return words
    return None


def parse_groups(text: str) -> list[Group]:
    """The groups of a cluster file (`ray up`) that may grow, the head's left out."""
    config = yaml.safe_load(text)
    most = int(config.get("max_workers", 2))  # Ray's own default
    return [
        Group(
            name,
            {key: float(value) for key, value in (kind.get("resources") or {}).items()},
            {key: str(value) for key, value in (kind.get("labels") or {}).items()},
            min(int(kind.get("max_workers", most)), most),
            grows=True,
        )
        for name, kind in config.get("available_node_types", {}).items()
        if name != config.get("head_node_type")
    ]
