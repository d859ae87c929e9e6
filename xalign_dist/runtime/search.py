"""Which search a stage gets: in this process, or actors with shards on the nodes of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import ray

from xalign_dist.config import MiningConfig, RuntimeConfig
from xalign_dist.mining.local import LocalSearch
from xalign_dist.mining.plan import takes_flat
from xalign_dist.runtime.session import Resources
from xalign_dist.runtime.shards import Say, ShardPool, shard_pool

Search = LocalSearch | ShardPool


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
    """Search in this process where it has one machine and every search is exact; else a pool of shards.

    Several shards on one machine would share its cores and its memory, and each search would be done
    once for each direction.

    Args:
        settings: ``mining`` of the config; with ``shards`` set there are always actors.
        folder: as of :func:`shard_pool`.
        rows: of every side that will be searched.
        resources: of the cluster; asked for only where there are actors, so that it may start Ray.
        alone: there is one machine only.
        say: as of :func:`shard_pool`.
    """
    exact = all(takes_flat(count, settings.recall, settings.index) for count in rows)
    if alone and exact and settings.shards is None:
        yield LocalSearch()
        return
    count = resources().shards(settings.shards)
    with shard_pool(folder, count, settings.index, settings.recall, say=say) as pool:
        yield pool
