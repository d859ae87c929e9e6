"""The gradient of one batch: plain, or cached so that memory does not grow with the batch.

Both forms separate the encoder from the loss. The embeddings become a leaf; the loss is differentiated
at that leaf, outside the engine, in fp32; the encoder is then differentiated by ``(embedding *
gradient).sum()``, whose gradient is the loss' own by the chain rule. So the engine (DeepSpeed included)
never sees the loss or its collectives, and the two forms differ in one thing only:

- plain: all chunks' activations are kept, one backward pass;
- cached (GradCache, Gao et al. 2021): chunks are encoded without gradient, then again one by one with
  gradient, each its own backward pass (a micro-step of accumulation, which every ZeRO stage supports).
  Activations of ``chunk_pairs`` pairs at a time, for one forward pass more; and that only for what has no
  room among these: the chunks encoded last keep theirs, and go first on the way back.

Dropout is seeded per (step, rank, chunk), so both encodings of a chunk drop the same units.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xalign_dist.objective import LossOutput
from xalign_dist.training.encode import ChunkPlan, TextChunk
from xalign_dist.training.engine import Engine

#: Embeddings ``[2B, D]`` (sources, then targets) -> loss.
LossOf = Callable[[Tensor], LossOutput]
#: Sets the random generators for the chunk of that number.
SeedChunk = Callable[[int], None]
#: Judges loss and embedding gradient ``[2B, D]``: False leaves the encoder's backward pass out.
Accept = Callable[[LossOutput, Tensor], bool]


def plain_gradient(
    engine: Engine, plan: ChunkPlan, loss_of: LossOf, seed_chunk: SeedChunk, accept: Accept
) -> tuple[LossOutput, bool]:
    """Add the batch's gradient to the engine, keeping every chunk's activations. See the module's text.

    Returns:
        The loss, and whether ``accept`` let the gradient pass.
    """
    parts = [_encode(engine, chunk, seed_chunk, k) for k, chunk in enumerate(plan.chunks)]
    out, gradient_ND = _at_embeddings(plan.restore([p.detach() for p in parts]), loss_of)
    accepted = accept(out, gradient_ND)
    if accepted:
        values = [_value(part, chunk, gradient_ND) for part, chunk in zip(parts, plan.chunks, strict=True)]
        engine.backward(torch.stack(values).sum())
    return out, accepted


def cached_gradient(
    engine: Engine, plan: ChunkPlan, loss_of: LossOf, seed_chunk: SeedChunk, accept: Accept
) -> tuple[LossOutput, bool]:
    """Add the batch's gradient to the engine, ``chunk_pairs`` pairs' activations at a time. See the module.

    Returns:
        The loss, and whether ``accept`` let the gradient pass.
    """
    kept, again = range(plan.fit), range(plan.fit, len(plan.chunks))
    unit_ND = _encode_all(engine, plan, again, seed_chunk)
    parts = [_encode(engine, plan.chunks[k], seed_chunk, k) for k in kept]
    for k, part_RD in zip(kept, parts, strict=True):
        unit_ND = _filled(unit_ND, plan, k, part_RD.detach())
    out, gradient_ND = _at_embeddings(_whole(unit_ND), loss_of)
    accepted = accept(out, gradient_ND)
    if accepted:
        values = [_value(part, plan.chunks[k], gradient_ND) for k, part in zip(kept, parts, strict=True)]
        engine.backward(torch.stack(values).sum())
        del parts, values
        for k in again:
            part = _encode(engine, plan.chunks[k], seed_chunk, k)
            engine.backward(_value(part, plan.chunks[k], gradient_ND))
    return out, accepted


def _encode(engine: Engine, chunk: TextChunk, seed_chunk: SeedChunk, number: int) -> Tensor:
    seed_chunk(number)
    return engine.encode(chunk.ids, chunk.mask)


@torch.no_grad()
def _encode_all(engine: Engine, plan: ChunkPlan, numbers: range, seed_chunk: SeedChunk) -> Tensor | None:
    unit_ND: Tensor | None = None
    with engine.resting():
        for k in numbers:
            unit_ND = _filled(unit_ND, plan, k, _encode(engine, plan.chunks[k], seed_chunk, k))
    return unit_ND


def _filled(unit_ND: Tensor | None, plan: ChunkPlan, number: int, part_RD: Tensor) -> Tensor:
    # Into one tensor as they come: hundreds of small ones kept between the chunks' activations would
    # leave the heap in pieces, and the peak would grow with the batch.
    if unit_ND is None:
        unit_ND = part_RD.new_empty(sum(len(c.rows_R) for c in plan.chunks), part_RD.shape[1])
    chunk = plan.chunks[number]
    if not chunk.filler:
        unit_ND[chunk.rows_R] = part_RD
    return unit_ND


def _whole(unit_ND: Tensor | None) -> Tensor:
    if unit_ND is None:
        raise RuntimeError("a batch without texts")
    return unit_ND


def _at_embeddings(unit_ND: Tensor, loss_of: LossOf) -> tuple[LossOutput, Tensor]:
    leaf_ND = unit_ND.requires_grad_()
    out = loss_of(leaf_ND)
    out.loss.backward()  # type: ignore[no-untyped-call]
    if leaf_ND.grad is None:
        raise RuntimeError("the loss does not depend on the embeddings")
    # Without its graph, which would keep the leaf alive beside the second encoding.
    return LossOutput(out.loss.detach(), out.trace), leaf_ND.grad


def _value(part_RD: Tensor, chunk: TextChunk, gradient_ND: Tensor) -> Tensor:
    if chunk.filler:
        return (part_RD * 0.0).sum()
    return (part_RD * gradient_ND[chunk.rows_R]).sum()
