"""Arithmetic across ranks, all of it, and its scale.

The scale, kept by every function here and by every caller:

- G = sum of the ranks' B rows. A global mean over rows is ``sum over all G rows / G``.
- Rank r works with ``L_r = W * (its own rows' share of the global sum) / G``, so that the mean of L_r
  over ranks is the loss L of one process that holds all rows (:meth:`Rows.global_mean`).
- :func:`gather_rows` sums the gradients that all ranks send to a row. The embeddings of rank r
  therefore receive ``dL_1/dx + ... + dL_W/dx = W * dL/dx``.
- Engines average parameter gradients over ranks (DeepSpeed, DDP, :func:`average_gradients`):
  ``1/W * sum_r W * dL/dx_r * dx_r/dtheta = dL/dtheta``, exactly one process' gradient.

Two traps that this avoids: without gradient through the gather, the gradient points elsewhere
(cosine 0.986 measured); and with the mean of plain local losses it is 1/W too small, which AdamW hides.
Everything works without ``torch.distributed``: then W = 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """W: ranks of the default process group, 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process' rank, 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum of ``values`` (any shape, no gradient) over ranks; a new tensor."""
    total = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def max_over_ranks(value: int, device: torch.device) -> int:
    """Largest ``value`` of any rank."""
    if world_size() == 1:
        return value
    largest = torch.tensor([value], dtype=torch.int64, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest.item())


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over ranks, in place. A missing one counts as zero.

    Every rank must pass the same parameters: a missing gradient on one rank only would hang the others.
    """
    world = world_size()
    if world == 1:
        return
    wanted = [p for p in parameters if p.requires_grad]
    if not wanted:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in wanted])
    dist.all_reduce(flat)
    flat /= world
    for p, mean in zip(wanted, torch.split(flat, [p.numel() for p in wanted]), strict=True):
        p.grad = mean.view_as(p).clone()


@dataclass(frozen=True)
class Rows:
    """Where this rank's rows lie among all: ``counts`` rows on each rank, mine from ``offset``."""

    counts: tuple[int, ...]
    rank: int

    @classmethod
    def of(cls, local_rows: int, device: torch.device) -> Rows:
        """Learn every rank's row count (they may differ: a batch that W does not divide)."""
        world = world_size()
        if world == 1:
            return cls((local_rows,), 0)
        counts = torch.zeros(world, dtype=torch.int64, device=device)
        counts[rank()] = local_rows
        dist.all_reduce(counts)
        return cls(tuple(int(c) for c in counts.tolist()), rank())

    @property
    def total(self) -> int:
        """G."""
        return sum(self.counts)

    @property
    def local(self) -> int:
        """B of this rank."""
        return self.counts[self.rank]

    @property
    def offset(self) -> int:
        """Global number of this rank's first row."""
        return sum(self.counts[: self.rank])

    def global_mean(self, values_B: Tensor) -> Tensor:
        """``L_r = W * sum(values) / G``: mean over ranks is the global mean. See the module's text."""
        if len(self.counts) == 1:
            return values_B.mean()
        return values_B.sum() * (len(self.counts) / self.total)

    def gather(self, local_BD: Tensor) -> Tensor:
        """All ranks' rows ``[G, ...]`` in rank order; gradients of all ranks are summed on the way back."""
        return gather_rows(local_BD, self)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, rows: Rows) -> Tensor:
        ctx.rows = rows
        return _all_gather(local, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        rows: Rows = ctx.rows
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[rows.offset : rows.offset + rows.local], None


def gather_rows(local_BD: Tensor, rows: Rows) -> Tensor:
    """Rows of all ranks ``[G, ...]``, in rank order, uneven counts allowed.

    Differentiable for floating tensors: the backward pass sums over ranks (see the module's text).
    """
    if len(rows.counts) == 1:
        return local_BD
    if local_BD.requires_grad:
        gathered: Tensor = _GatherRows.apply(local_BD, rows)  # type: ignore[no-untyped-call]
        return gathered
    return _all_gather(local_BD, rows)


def _all_gather(local: Tensor, rows: Rows) -> Tensor:
    most = max(rows.counts)
    padded = local.new_zeros((most, *local.shape[1:]))
    padded[: rows.local] = local
    parts = [torch.empty_like(padded) for _ in rows.counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, rows.counts, strict=True)])
