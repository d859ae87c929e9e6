"""Run one function in W processes that form a gloo process group."""

from __future__ import annotations

import faulthandler
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_ranks(world: int, function: Callable[..., None], *arguments: Any) -> None:
    """Call ``function(rank, world, *arguments)`` in ``world`` processes; a failure of one fails the test."""
    # The store listens from here on: a port that is only looked up may be another process's by the time
    # that the ranks have started.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    mp.spawn(_enter, (world, store.port, function, arguments), nprocs=world)


def _enter(
    rank: int, world: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    faulthandler.enable()  # a rank that aborts says where
    # DeepSpeed calls these at every step, and what a failing rank says would drown in it.
    warnings.filterwarnings("ignore", "`torch.distributed", FutureWarning)
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        function(rank, world, *arguments)
        dist.barrier()  # nobody takes its connections down while another one still talks
    finally:
        dist.destroy_process_group()
    # Without the interpreter's own end, as Ray ends its workers: groups that DeepSpeed keeps still have
    # threads then, which may abort a rank that has done all its work.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
