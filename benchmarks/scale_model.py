"""The arithmetic of ``benchmarks/scale.py``: what mining N x M sentences takes, from measured unit costs.

Every figure is a sum of units times a unit cost; nothing is rounded before the end. Sharded: memory is
per shard, times for the work of all shards are divided by the cores (or devices) that share it.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass

from xalign_dist.mining.plan import index_bytes, work

GB = 1e9
HOUR = 3600.0
MOST_NODES = 1_000_000
KINDS = ("flat", "hnsw", "ivfpq")


@dataclass(frozen=True)
class Unit:
    """Measured on one core of this machine.

    Attributes:
        embed: texts/s.
        build: seconds per unit of ``xalign_dist.mining.plan.work``, by kind.
        search: the same.
        merge: seconds to merge one neighbour of one query and shard.
        write: bytes/s to this disk.
    """

    embed: float
    build: dict[str, float]
    search: dict[str, float]
    merge: float
    write: float


@dataclass(frozen=True)
class Machine:
    """A kind of cloud node, as its provider describes it.

    Attributes:
        name: of the provider's.
        cores: physical ones.
        memory: bytes.
        network: bytes/s.
        disk: bytes of local disk.
        embed_times: texts/s of the node as a multiple of one measured core (its cores, or its GPUs).
    """

    name: str
    cores: int
    memory: float
    network: float
    disk: float
    embed_times: float


@dataclass(frozen=True)
class Job:
    """N sources against M targets, D dimensions, K neighbours, K lists both ways."""

    sources: float
    targets: float
    dim: int = 384
    k: int = 16
    views: int = 2


@dataclass(frozen=True)
class Bill:
    """What a job takes on ``nodes`` nodes.

    Attributes:
        kind: of the index.
        nodes: that hold it, and do the work side by side.
        shards: one per node.
        memory: bytes of each node.
        disk: bytes of all nodes.
        network: bytes between nodes.
        hours: by part.
    """

    kind: str
    nodes: int
    shards: int
    memory: float
    disk: float
    network: float
    hours: dict[str, float]

    @property
    def total(self) -> float:
        """Hours from text to pairs."""
        return sum(self.hours.values())


def disk_bytes(job: Job) -> float:
    """Vectors of both views and the lists of both directions (score and row: 12 bytes a neighbour)."""
    sentences = job.sources + job.targets
    return sentences * (4 * job.dim * job.views + 12 * job.k)


def network_bytes(job: Job, shards: int) -> float:
    """Every query goes to every shard and K neighbours come back from each, both ways."""
    sentences = job.sources + job.targets
    return sentences * shards * (4 * job.dim + 12 * job.k) if shards > 1 else 0.0


def nodes_needed(job: Job, kind: str, machine: Machine, share: float = 0.5) -> int:
    """Least nodes whose memory (``share`` of it) holds the larger side's index, and their disks the rest."""
    rows = max(job.sources, job.targets)

    def fits(nodes: int) -> bool:
        held = index_bytes(math.ceil(rows / nodes), job.dim, kind)
        return held <= share * machine.memory and disk_bytes(job) <= nodes * machine.disk

    enough = 1
    while not fits(enough):
        enough *= 2
        if enough > MOST_NODES:
            raise ValueError(f"{machine.name}: no number of nodes holds {rows:,.0f} rows as {kind}")
    return bisect.bisect_left(range(1, enough), True, key=fits) + 1


def search_seconds(job: Job, kind: str, unit: Unit, shards: int) -> tuple[float, float]:
    """Core-seconds of all shards to build and to search both directions."""
    build = search = 0.0
    for queries, rows in ((job.sources, job.targets), (job.targets, job.sources)):
        one = work(kind, math.ceil(rows / shards), math.ceil(queries), job.dim)
        build += shards * one[0] * unit.build[kind]
        search += shards * one[1] * unit.search[kind]
    return build, search


def bill(job: Job, kind: str, unit: Unit, machine: Machine, nodes: int | None = None) -> Bill:
    """What ``job`` takes with index ``kind`` on ``nodes`` nodes (None: the least that hold it)."""
    nodes = nodes_needed(job, kind, machine) if nodes is None else nodes
    cores, sentences = nodes * machine.cores, job.sources + job.targets
    build, search = search_seconds(job, kind, unit, nodes)
    moved = network_bytes(job, nodes)
    hours = {
        "embed": sentences / (unit.embed * machine.embed_times * nodes) / HOUR,
        "build": build / cores / HOUR,
        "search": search / cores / HOUR,
        "merge": sentences * nodes * job.k * unit.merge / cores / HOUR,
        "network": moved / (machine.network * nodes) / HOUR,
        "disk": disk_bytes(job) / (unit.write * nodes) / HOUR,
    }
    rows = math.ceil(max(job.sources, job.targets) / nodes)
    return Bill(kind, nodes, nodes, index_bytes(rows, job.dim, kind), disk_bytes(job), moved, hours)


def cheapest(job: Job, unit: Unit, machine: Machine, nodes: int | None = None) -> Bill:
    """The kind of index that is through first on that many nodes (None: on the least that hold each)."""
    return min((bill(job, kind, unit, machine, nodes) for kind in KINDS), key=lambda b: b.total)
