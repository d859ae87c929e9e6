"""Arithmetic across ranks, all of it, and its scale.

The scale, kept by every function here and by every caller:

- G = sum of the ranks' B rows. A global mean over rows is ``sum over all G rows / G``.
- Rank r works with ``L_r = W * (its own rows' share of the global sum) / G``, so that the mean of L_r
  over ranks is the loss L of one process that holds all rows (:meth:`Rows.global_mean`).
- :func:`gather_rows` sums the gradients that all ranks send to a row. The embeddings of rank r
  therefore receive ``dL_1/dx + ... + dL_W/dx = W * dL/dx``.
- Engines average parameter gradients over ranks (DeepSpeed, DDP, :class:`GradientMean`):
  ``1/W * sum_r W * dL/dx_r * dx_r/dtheta = dL/dtheta``, exactly one process' gradient.

Two traps that this avoids: without gradient through the gather, the gradient points elsewhere
(cosine 0.986 measured); and with the mean of plain local losses it is 1/W too small, which AdamW hides.
Everything works without ``torch.distributed``: then W = 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


class GradientMean:
    """Replaces the gradients of parameters by their means over ranks, in place. A missing one counts as zero.

    With one rank too, so that a parameter without a gradient is trained alike on any number of ranks.
    With more, all go through one flat buffer, which is kept: a new one every step would cost as much in page
    faults as the transfer (10 million parameters, two processes of a CPU: 19 ms of 48). The gradients are
    views of it afterwards. Of tables only the rows travel that some rank looked up: every other row is zero
    on all.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        looked_up: Mapping[torch.nn.Parameter, Tensor] | None = None,
    ) -> None:
        """Every rank must pass the same parameters: one missing on one rank only would hang the others.

        Args:
            parameters: those that require a gradient are averaged.
            looked_up: of tables ``[V, ...]`` among them a mask uint8 ``[V]``, which is cleared when the
                means are made: rows outside of it have no gradient on this rank.
        """
        wanted = [p for p in parameters if p.requires_grad]
        tables = looked_up or {}
        self._whole = [p for p in wanted if p not in tables]
        self._tables = {p: tables[p] for p in wanted if p in tables}
        # Now and not at the first step, which would be too late to find that there is no memory for it.
        self._flat = torch.empty(0)
        if wanted and world_size() > 1:
            room = sum(p.numel() for p in wanted)
            self._flat = torch.empty(room, dtype=torch.float32, device=wanted[0].device)

    def __call__(self) -> None:
        """Average what backward has left in ``.grad``; all ranks must call it equally often."""
        world = world_size()
        if world == 1:
            for p in (*self._whole, *self._tables):
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
        if world == 1 or not (self._whole or self._tables):
            return
        sizes = [p.numel() for p in self._whole]
        rows = [_rows_of_any_rank(mask_V) for mask_V in self._tables.values()]
        sizes += [len(r) * p[0].numel() for p, r in zip(self._tables, rows, strict=True)]
        flat = self._flat[: sum(sizes)]
        parts = list(torch.split(flat, sizes))
        table_parts = parts[len(self._whole) :]
        for p, part in zip(self._whole, parts, strict=False):
            if p.grad is None:
                part.zero_()
            else:
                part.copy_(p.grad.flatten())
        for p, r, part in zip(self._tables, rows, table_parts, strict=True):
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            part.copy_(p.grad[r].flatten())
        dist.all_reduce(flat)
        flat /= world
        for p, mean in zip(self._whole, parts, strict=False):
            p.grad = mean.view_as(p).to(p.dtype)
        for p, r, mean in zip(self._tables, rows, table_parts, strict=True):
            p.grad[r] = mean.view(len(r), *p.shape[1:]).to(p.dtype)  # type: ignore[index]


def _rows_of_any_rank(mask_V: Tensor) -> Tensor:
    """Row numbers that are set in any rank's mask, int64; clears the mask."""
    seen_V = mask_V.clone()
    mask_V.zero_()
    dist.all_reduce(seen_V, op=dist.ReduceOp.MAX)
    return seen_V.nonzero().flatten()


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
