"""What a stage asks of the cluster, and the refusal of what no node there could ever give."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import ResourceError

#: Reservations are fractions of a CPU; a sum of them may miss a whole one by rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Demand:
    """``count`` equal parts, each on one node.

    Attributes:
        what: that asks, for people.
        count: parts.
        resources: of one part, as Ray names them.
        labels: of the nodes, as Ray's label selectors: a value, ``!value``, ``in(a,b)``, ``!in(a,b)``.
        setting: of the config, that says how many.
    """

    what: str
    count: int
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    setting: str = "runtime.train_workers"

    def __str__(self) -> str:
        each = ", ".join(f"{amount:g} {name}" for name, amount in self.resources.items())
        return f"{self.count} x ({each})" + (f" on nodes with {_said(self.labels)}" if self.labels else "")


@dataclass(frozen=True)
class Group:
    """Nodes of one kind.

    Attributes:
        name: of the group, or the address of a single node.
        resources: of one node.
        labels: of every node.
        most: so many nodes there may be.
        grows: whether an autoscaler adds them.
        head: whether it is the head.
    """

    name: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    most: int = 1
    grows: bool = False
    head: bool = False

    def share(self, demand: Demand) -> float:
        """How often a part of ``demand`` fits on one node, whatever its labels; below 1: so much of it."""
        needs = {name: amount for name, amount in demand.resources.items() if amount > 0}
        fit = (self.resources.get(name, 0.0) / amount for name, amount in needs.items())
        return min(fit, default=float(demand.count))

    def labelled(self, demand: Demand) -> bool:
        """Whether its labels are those that ``demand`` asks for."""
        return all(_matches(value, self.labels.get(key)) for key, value in demand.labels.items())

    def room(self, demand: Demand) -> int:
        """So many parts fit on all its nodes together."""
        return self.most * math.floor(self.share(demand) + _ROUNDING) if self.labelled(demand) else 0


def room(demand: Demand, nodes: Sequence[Group]) -> int:
    """Parts that fit on all of ``nodes``."""
    return sum(node.room(demand) for node in nodes)


def reach(demand: Demand, live: Sequence[Group], groups: Sequence[Group]) -> int:
    """Parts that there can ever be room for: on the head, and on what the groups may grow to.

    Live nodes other than the head are taken for members of the groups where those hold more.
    """
    workers = [node for node in live if not node.head]
    return room(demand, [n for n in live if n.head]) + max(room(demand, workers), room(demand, groups))


def refuse(demand: Demand, live: Sequence[Group], groups: Sequence[Group] | None) -> None:
    """Refuse what can never come, with the reason and the nearest group.

    Args:
        demand: what is asked.
        live: the nodes that there are, one by one.
        groups: those that an autoscaler may start; None: not known, and nothing is refused.

    Raises:
        ResourceError: neither the nodes nor the groups can ever give it.
    """
    if groups is None:
        return
    possible = reach(demand, live, groups)
    if possible >= demand.count:
        return
    asked, known = f"{demand.what} asks for {demand}", [*groups, *live]
    lacking = [name for name in demand.resources if not any(n.resources.get(name) for n in known)]
    if lacking:
        raise ResourceError(
            f"{asked}, and the cluster has no {' and no '.join(lacking)}, nor a group that could add one",
            "set runtime.gpus_per_worker=null to train on CPUs, or give --address of a cluster with GPUs"
            if "GPU" in lacking
            else "start the cluster with worker nodes, see cluster/",
        )
    nearest = max(known, key=lambda g: (g.room(demand), g.labelled(demand), g.share(demand), g.grows))
    problem, remedy = _reason(demand, nearest, possible)
    raise ResourceError(f"{asked}, and the cluster can never give that: {problem}", remedy)


def _reason(demand: Demand, nearest: Group, possible: int) -> tuple[str, str]:
    kind = "group" if nearest.grows else "node"
    if possible:
        limit = f"raise max_workers of group {nearest.name}" if nearest.grows else "add nodes"
        size = f", which may have {nearest.most} nodes" if nearest.grows else ""
        return (
            f"there is room for {possible}; the nearest is {kind} {nearest.name}{size}",
            f"set {demand.setting} to at most {possible}, or {limit}",
        )
    if nearest.labelled(demand):
        has = ", ".join(f"{nearest.resources.get(name, 0):g} {name}" for name in demand.resources)
        return (
            f"the nearest is {kind} {nearest.name}, whose nodes have {has} each",
            "set runtime.gpus_per_worker to what one node has, or give the group larger nodes",
        )
    return (
        f"no group has these labels; the nearest is {kind} {nearest.name} with "
        f"{_said(nearest.labels) or 'none'}",
        "set runtime.node_labels to those of a group",
    )


def training_demand(runtime: RuntimeConfig, total: Mapping[str, float]) -> Demand:
    """Workers of a training and what each reserves, from the config and the cluster's live totals.

    Without GPUs workers never reserve every CPU that is there: a reservation that waits for the rest would
    hang. Where no CPU or no GPU is there, nodes with them are still to come.
    """
    gpus, cpus = total.get("GPU", 0.0), total.get("CPU", 0.0)
    each = (1.0 if gpus else 0.0) if runtime.gpus_per_worker is None else runtime.gpus_per_worker
    workers = runtime.train_workers or (max(1, int(gpus / each)) if each else 1)
    most = max(workers, runtime.train_workers_max or workers)
    resources = {"CPU": 1.0 if each or not cpus else min(1.0, max(cpus - 1.0, 0.5) / most)}
    if each:
        resources["GPU"] = each
    return Demand("training", workers, resources, dict(runtime.node_labels))


def _matches(wanted: str, has: str | None) -> bool:
    """Ray's label selectors: a value, one of several, or not."""
    wanted, negative = wanted.removeprefix("!"), wanted.startswith("!")
    several = re.fullmatch(r"in\((.*)\)", wanted)
    values = [v.strip() for v in several[1].split(",")] if several else [wanted]
    return (has in values) != negative


def _said(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items() if not key.startswith("ray.io/"))
