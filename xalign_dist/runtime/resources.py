"""What the cluster has, what its groups may grow to, and how many actors and nodes a stage takes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import ray

from xalign_dist.config import RuntimeConfig
from xalign_dist.runtime.demand import Demand, Group, room
from xalign_dist.runtime.waiting import node_groups, wait_for

CORES = 8
"""Of one embedding actor without a GPU."""
BLOCKS_PER_ACTOR, BLOCKS_PER_GPU = 8, 64
"""Blocks of texts that are worth an actor on a node still to come: some minutes of work, as booting takes."""
ROWS_PER_NODE = 2_000_000
"""Vectors of an index that are worth a node still to come."""


@dataclass(frozen=True)
class Pool:
    """Embedding actors of one stage.

    Attributes:
        actors: on all nodes, those still to come among them.
        threads: of each; None: it has a GPU.
        cpus: that each reserves.
        gpus: share that each reserves.
        labels: of its node, as Ray's label selectors.
        moves: whether a lost actor may start again on another node.
    """

    actors: int
    threads: int | None
    cpus: float
    gpus: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    moves: bool = False


@dataclass(frozen=True)
class Resources:
    """What the cluster can give.

    Attributes:
        cpus: over all nodes.
        gpus: over all nodes.
        nodes: those that have CPUs; at least one.
        least_cpus: to wait for, where nodes come and go (see :meth:`now`); 0: what is here stays as it is.
        groups: whose nodes an autoscaler may add; none where there is no autoscaler, or it is not known.
    """

    cpus: int
    gpus: int
    nodes: int
    least_cpus: int = 0
    groups: tuple[Group, ...] = ()

    def now(self) -> Resources:
        """What is there at this moment, of a cluster that was joined: asked at the start of each stage.

        An autoscaler may have taken all nodes away meanwhile; then this waits for the first ones. Without
        one it takes what there is.

        Raises:
            ResourceError: no node can ever come.
        """
        if not self.least_cpus:
            return self
        cpus = ray.cluster_resources().get("CPU", 0)
        if cpus < self.least_cpus and (cpus < 1 or node_groups() != []):
            wait_for(Demand("this stage", self.least_cpus, {"CPU": 1.0}, setting="runtime.min_cpus"))
        return cluster_resources(self.least_cpus)

    def threads(self, actors: int) -> int | None:
        """Cores of each of ``actors`` that are spread over the nodes; None: they have GPUs.

        No more than one node has, and no more than the actor's share of all.
        """
        return None if self.gpus else max(1, min(self.cpus // self.nodes, self.cpus // actors))

    def embed_actors(self, config: RuntimeConfig) -> int:
        """Embedding actors on what is here: as configured, else one per GPU, else one per 8 CPUs.

        Without GPUs a few fat actors beat many thin ones, because one forward pass
        already uses all the cores that torch is given. A number meant for GPUs that are still to come does
        not hold for CPUs.
        """
        if config.embed_actors is not None and (self.gpus or not self._gpu_room(config)):
            return config.embed_actors
        return max(1, self.gpus or self.cpus // CORES)

    def embed_gpus(self, config: RuntimeConfig) -> float:
        """GPU share of one embedding actor: that of a training worker where it is part of one, else one."""
        return _gpu_share(config) if self.gpus else 0.0

    def pool(self, config: RuntimeConfig, blocks: int) -> Pool:
        """Actors that embed ``blocks`` pieces of work, never more than these.

        Where an autoscaler adds nodes there may be more of them than fit on the nodes that are here: those
        that wait make it add nodes, while the others work. Nodes with GPUs are asked for only where the
        config names ``gpus_per_worker``, and those with its ``node_labels``.
        """
        actors = min(self.embed_actors(config), blocks)
        # Half a CPU each: the pool must leave room for Data's own tasks on a 2-CPU machine.
        cpus = 0.0 if self.gpus else 0.5
        moves = self.nodes > 1 or bool(self.groups)
        here = Pool(actors, self.threads(actors), cpus, self.embed_gpus(config), moves=moves)
        return self._gpu_pool(config, blocks) or self._cpu_pool(config, blocks) or here

    def _gpu_pool(self, config: RuntimeConfig, blocks: int) -> Pool | None:
        if not self._gpu_room(config):
            return None
        share = _gpu_share(config)
        if config.embed_actors is None:
            actors = min(self._gpu_room(config), blocks // BLOCKS_PER_GPU)
        else:
            actors = min(self._gpu_room(config, share), config.embed_actors, blocks)
        if actors * share <= self.gpus:
            return None
        return Pool(actors, None, 0.0, share, dict(config.node_labels), moves=True)

    def _gpu_room(self, config: RuntimeConfig, share: float = 1.0) -> int:
        """Actors with ``share`` of a GPU each, on nodes that the groups may have and the config asks for."""
        if not config.gpus_per_worker:
            return 0
        return room(Demand("embedding", 1, {"GPU": share}, config.node_labels), self.groups)

    def _cpu_pool(self, config: RuntimeConfig, blocks: int) -> Pool | None:
        """None where what is here is enough."""
        groups = self._data_groups()
        if self.gpus or not groups:
            return None
        cores, nodes = _cores(groups), sum(group.most for group in groups)
        each = max(1, cores // CORES)
        if config.embed_actors is None:
            actors = min(each * nodes, blocks // BLOCKS_PER_ACTOR)
        else:
            actors = min(config.embed_actors, blocks)
            each = max(each, math.ceil(actors / nodes))
        if actors <= max(1, self.cpus // CORES):
            return None
        # So much that `each` fit on a node and not one more: with half a CPU all would go to the first node.
        # Of a large node one CPU is left to others, e.g. the driver of a job.
        cpus = max((cores - 1) / each, (cores / each + cores / (each + 1)) / 2)
        return Pool(actors, max(1, cores // each), cpus, moves=True)

    def reachable_gpus(self, labels: Mapping[str, str]) -> int:
        """GPUs that are here, or that the groups with ``labels`` may grow to."""
        return max(self.gpus, room(Demand("a GPU", 1, {"GPU": 1.0}, labels), self.groups))

    def index_demand(self, rows: int) -> Demand | None:
        """Nodes still to come that an index of ``rows`` vectors is worth; None: those here will do."""
        groups = self._data_groups()
        nodes = min(sum(group.most for group in groups), rows // ROWS_PER_NODE)
        if nodes <= self.nodes:
            return None
        # More than half a node each, so that no two go to the same.
        return Demand("mining", nodes, {"CPU": float(_cores(groups) // 2 + 1)}, setting="mining.shards")

    def shards(self, configured: int | None) -> int:
        """Index shards: as configured, else one per GPU, else two per node (one laptop: 2)."""
        if configured:
            return configured
        here = self.now()
        return here.gpus or max(2, 2 * here.nodes)

    def _data_groups(self) -> list[Group]:
        """Those without GPUs: an autoscaler keeps the others for who asks for a GPU."""
        return [g for g in self.groups if g.resources.get("CPU", 0) >= 1 and not g.resources.get("GPU")]


def cluster_resources(least_cpus: int = 0) -> Resources:
    """Totals over the connected cluster's live nodes; ``least_cpus`` as in :class:`Resources`."""
    total = ray.cluster_resources()
    # A head that is to take no work has no CPUs.
    nodes = [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
    return Resources(
        max(1, int(total.get("CPU", 1))),
        int(total.get("GPU", 0)),
        max(1, len(nodes)),
        least_cpus,
        tuple(node_groups() or ()) if least_cpus else (),
    )


def _gpu_share(config: RuntimeConfig) -> float:
    return min(1.0, config.gpus_per_worker or 1.0)


def _cores(groups: list[Group]) -> int:
    """Of a node, whichever group it is from."""
    return int(min(group.resources["CPU"] for group in groups))
