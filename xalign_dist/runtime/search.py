"""Which search a stage gets: in this process, or actors with shards on the nodes of a cluster."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import ray

from xalign_dist.config import MiningConfig, RuntimeConfig
from xalign_dist.errors import Preempted
from xalign_dist.mining.index import gpus
from xalign_dist.mining.local import LocalSearch
from xalign_dist.mining.plan import SHARE_OF_MEMORY, plan_index, takes_flat
from xalign_dist.runtime.resources import Resources
from xalign_dist.runtime.shards import Say, ShardPool, shard_pool
from xalign_dist.runtime.waiting import wait_for

Search = LocalSearch | ShardPool

PATIENCE = 600.0
"""Seconds that an index waits for more nodes than there are; with what has come by then it goes on."""


def stands_alone(runtime: RuntimeConfig) -> bool:
    """Whether a command with these settings has this machine only, and no Ray of anybody's was joined."""
    return runtime.address is None and not ray.is_initialized()


@contextlib.contextmanager
def neighbour_search(
    settings: MiningConfig,
    folder: Path,
    rows: Iterable[int],
    resources: Callable[[], Resources],
    *,
    alone: bool,
    say: Say = lambda line: None,
) -> Iterator[Search]:
    """Search in this process where it has one machine, no GPU, and every search is exact; else shards.

    Several shards on one machine would share its cores and its memory, and each search would be done
    once for each direction. On a cluster that grows, an index that is worth it brings nodes first.

    Args:
        settings: ``mining`` of the config; with ``shards`` set there are always actors.
        folder: as of :func:`shard_pool`.
        rows: of every side that will be searched.
        resources: of the cluster; asked for only where there are actors, so that it may start Ray.
        alone: there is one machine only.
        say: as of :func:`shard_pool`.
    """
    rows = list(rows)
    exact = all(takes_flat(count, settings.recall, settings.index) for count in rows)
    if alone and exact and settings.shards is None and not gpus():
        yield LocalSearch()
        return
    found = resources().now()
    bring_nodes(found, max(rows, default=0), say)
    count = found.shards(settings.shards)
    share = _gpu_share(count)
    with shard_pool(folder, count, settings.index, settings.recall, say=say, gpus=share) as pool:
        yield pool


def _gpu_share(shards: int) -> float:
    """Share of a GPU for each of ``shards``, of those that nobody holds now: an index waits for none."""
    free = int(ray.available_resources().get("GPU", 0))
    return min(1.0, free / shards)


def require_room(
    settings: MiningConfig,
    sides: Iterable[tuple[int, int]],
    width: int,
    resources: Callable[[], Resources],
    *,
    alone: bool,
) -> None:
    """Refuse what :func:`neighbour_search` will not be able to hold, before hours of embedding.

    A cluster whose groups may add nodes is not judged by those that are there.

    Args:
        settings: ``mining`` of the config.
        sides: (source rows, target rows) of every language pair.
        width: dimensions of the vectors.
        resources: asked for where actors will search.
        alone: there is one machine only.

    Raises:
        ResourceError: the index of a side does not fit, with the numbers.
    """
    pairs = [(a, b) for one, other in sides for a, b in ((one, other), (other, one))]
    exact = all(takes_flat(rows, settings.recall, settings.index) for rows, _ in pairs)
    if alone and exact and settings.shards is None and not gpus():
        for rows, queries in pairs:
            plan_index(rows, width, kind="flat", queries=queries)
        return
    found = resources()
    if found.groups:
        return
    memory = int(ray.cluster_resources().get("memory", 0) * SHARE_OF_MEMORY) or None
    for rows, queries in pairs:
        shards = min(found.shards(settings.shards), max(rows, 1))
        plan_index(rows, width, memory, settings.recall, settings.index, queries=queries, shards=shards)


def bring_nodes(resources: Resources, rows: int, say: Say, patience: float = PATIENCE) -> None:
    """Wait for the nodes that an index of ``rows`` vectors is worth, at most ``patience`` seconds.

    Shards stay on the node where they start, so that the nodes have to be there before.
    """
    demand = resources.index_demand(rows)
    if demand is None:
        return
    enough = threading.Event()
    timer = threading.Timer(patience, enough.set)
    timer.daemon = True
    timer.start()
    try:
        wait_for(demand, say, enough)
    except Preempted:
        say(f"not all of {demand} came within {patience:.0f} s: mining goes on with the nodes that are there")
    finally:
        timer.cancel()
