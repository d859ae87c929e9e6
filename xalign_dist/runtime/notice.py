"""What the cluster and the driver may ask of the workers: a node is drained, the command is to stop."""

from __future__ import annotations

import math
import time
from typing import Any

import ray
import torch

from xalign_dist.objective.gather import max_over_ranks
from xalign_dist.training.notice import Notice

#: A drain leaves 30 s at the least (spot nodes); a question is a barrier of some milliseconds.
ASK_SECONDS = 2.0


class ClusterNotice:
    """Asks about every :data:`ASK_SECONDS` seconds, at steps that all workers agree on.

    A node that is drained (a spot instance that is taken back, a node that is scaled down) means
    :attr:`Notice.SAVE`, once: training goes on until the node is gone, then Ray restarts the workers on what
    is left, from that checkpoint. So does a node that joins where more workers are wanted: Ray will end the
    workers to start more. A SIGTERM to the driver means :attr:`Notice.STOP`.
    """

    def __init__(self, channel: Any, rank: int, device: torch.device, grows: bool = False) -> None:
        """``channel`` tells whether the driver wants an end; ``grows``: more workers are wanted."""
        self._channel, self._rank, self._device = channel, rank, device
        self._drained: set[str] = set()
        self._grows = grows and rank == 0
        self._known = _alive() if self._grows else frozenset[str]()
        self._steps, self._due, self._last = 0, 1, 0
        self._asked = time.monotonic()

    def __call__(self) -> Notice:
        """The answer of all ranks together."""
        self._steps += 1
        if self._steps < self._due:
            return Notice.NONE
        said = Notice.NONE
        info = ray.train.get_preemption_info()  # the same on every rank
        drained = set() if info is None else set(info.preempted_node_ids)
        if drained - self._drained:
            said, self._drained = Notice.SAVE, self._drained | drained
        if self._grows:
            nodes = _alive()
            if nodes - self._known:
                said = Notice.SAVE
            self._known |= nodes
        if self._rank == 0 and ray.get(self._channel.stop_wanted.remote()):
            said = Notice.STOP
        self._due = self._steps + max_over_ranks(self._steps_until_next(), self._device)
        return Notice(max_over_ranks(int(said), self._device))

    def _steps_until_next(self) -> int:
        now = time.monotonic()
        each = (now - self._asked) / max(1, self._steps - self._last)
        self._asked, self._last = now, self._steps
        return max(1, math.floor(ASK_SECONDS / max(each, 1e-3)))


def _alive() -> frozenset[str]:
    return frozenset(str(node["NodeID"]) for node in ray.nodes() if node["Alive"])
