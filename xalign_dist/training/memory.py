"""The memory of a training: an estimate before it begins, and faults that name what to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor, nn

from xalign_dist.config.deepspeed import deepspeed_config
from xalign_dist.config.model import TrainingConfig
from xalign_dist.encoder import Encoder
from xalign_dist.errors import TrainingError
from xalign_dist.objective.objective import BLOCK_ROWS
from xalign_dist.training.encode import ChunkPlan, TextChunk

#: How torch's allocators begin a refusal that is no ``torch.OutOfMemoryError``.
_REFUSALS = ("DefaultCPUAllocator", "not enough memory", "can't allocate memory", "Cannot allocate memory")
#: Similarities that a matrix of one of several blocks of the objective may hold: 1 MB.
_BLOCK_VALUES = 2**18
#: Matrices of a block that are alive together on the way back (counted with every part switched on).
_BLOCK_MATRICES = 16


def block_rows(batch_pairs: int) -> int:
    """Rows of the objective's blocks, so that its memory does not grow with the batch."""
    return BLOCK_ROWS if batch_pairs <= BLOCK_ROWS else max(32, _BLOCK_VALUES // batch_pairs)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one worker's device, from what is trained and how.

    Attributes:
        parameters: weights as the forward pass uses them.
        gradients: of the trained ones; without ZeRO and with several workers also the buffer in which
            they are averaged.
        optimizer: moments, and under ZeRO the fp32 copy of the weights.
        activations: kept for the backward pass: with cached gradients of ``chunk_pairs`` pairs, else of the
            batch.
        embeddings: all texts' vectors and their gradients.
        similarities: blocks of the objective.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    embeddings: int
    similarities: int

    @property
    def total(self) -> int:
        """Their sum. What libraries take for themselves comes on top."""
        return sum(astuple(self))

    def __str__(self) -> str:
        parts = ", ".join(f"{f.name} {_readable(getattr(self, f.name))}" for f in fields(self))
        return f"memory per worker about {_readable(self.total)}: {parts}"


def estimate_memory(
    encoder: Encoder,
    plan: ChunkPlan,
    config: TrainingConfig,
    dtype: torch.dtype | None,
    world_size: int,
) -> MemoryEstimate:
    """What training on batches like ``plan`` will need.

    State follows from the counts of parameters and the ZeRO stage (Rajbhandari et al. 2020, table 1, with
    weights kept in fp32); activations are measured on two texts of the longest chunk.

    Args:
        encoder: before an engine has taken it over.
        plan: of this rank's longest batch.
        config: the training section.
        dtype: of autocast; None: none.
        world_size: W.
    """
    parameters, gradients, optimizer = _state_bytes(encoder, config, world_size)
    texts = sum(len(chunk.rows_R) for chunk in plan.chunks)
    rows = block_rows(config.batch_pairs)
    # A rank's vectors and their gradients, and the gathered ones' of all ranks.
    vectors = 2 * texts + (4 * config.batch_pairs if world_size > 1 else 0)
    return MemoryEstimate(
        parameters=parameters,
        gradients=gradients,
        optimizer=optimizer,
        activations=_activation_bytes(encoder, plan, dtype, cached=config.chunk_pairs is not None),
        embeddings=4 * encoder.dim * vectors,
        similarities=4 * _BLOCK_MATRICES * min(rows, -(-texts // 2)) * config.batch_pairs,
    )


@contextmanager
def memory_fault_named(when: str, encoder: Encoder, config: TrainingConfig) -> Iterator[None]:
    """Faults of the allocators become a :class:`TrainingError` that says what to change.

    Args:
        when: what was being done.
        encoder: what is trained.
        config: the training section.
    """
    try:
        yield
    except RuntimeError as err:
        text = str(err)
        if not isinstance(err, torch.OutOfMemoryError) and not any(sign in text for sign in _REFUSALS):
            raise
        raise TrainingError(
            f"{when}: out of memory ({text.splitlines()[0]})", ", or ".join(_remedies(encoder, config))
        ) from err


def _remedies(encoder: Encoder, config: TrainingConfig) -> list[str]:
    chunk = max(1, (config.chunk_pairs or config.batch_pairs) // 2)
    found = []
    if config.chunk_pairs != 1:
        found.append(f"set training.chunk_pairs={chunk} or less (the loss stays the same)")
    if not _recomputes(encoder):
        found.append("set encoder.gradient_checkpointing=true")
    if config.deepspeed.zero_stage < 3:
        found.append(
            f"with several workers raise training.deepspeed.zero_stage (now {config.deepspeed.zero_stage})"
        )
    return [*found, f"lower encoder.max_tokens or training.batch_pairs (now {config.batch_pairs})"]


def _recomputes(encoder: Encoder) -> bool:
    return any(getattr(module, "gradient_checkpointing", False) for module in encoder.backbone.modules())


def _state_bytes(encoder: Encoder, config: TrainingConfig, world_size: int) -> tuple[int, int, int]:
    settings = deepspeed_config(config)
    stage = int(settings["zero_optimization"]["stage"])

    def shared_from(first: int, count: int) -> int:
        return -(-count // world_size) if stage >= first else count

    every = sum(p.numel() for p in encoder.parameters())
    trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    half = bool(settings["bf16"]["enabled"] or settings["fp16"]["enabled"])
    moments = 8 * trained if config.optimizer == "adamw" else 0
    master = 4 * trained if stage > 0 else 0
    buffer = 4 * trained if stage == 0 and world_size > 1 else 0
    offloaded = config.deepspeed.offload == "cpu"
    return (
        shared_from(3, (2 if half else 4) * every),
        shared_from(2, 4 * trained) + buffer,
        0 if offloaded else shared_from(1, moments + master),
    )


def _activation_bytes(encoder: Encoder, plan: ChunkPlan, dtype: torch.dtype | None, cached: bool) -> int:
    sizes = [chunk.ids.numel() for chunk in plan.chunks]
    longest = max(plan.chunks, key=lambda chunk: chunk.ids.shape[1])
    tokens = max(sum(sizes[: plan.fit]), max(sizes)) if cached else sum(sizes)
    if not _recomputes(encoder):
        return int(_bytes_per_token(encoder, longest, dtype) * tokens)
    # One layer at a time is whole; of the others the input is kept.
    layers = int(encoder.backbone.config.num_hidden_layers)
    inputs = 4 * int(encoder.backbone.config.hidden_size) * layers
    return int((_bytes_per_token(encoder, longest, dtype, recompute=True) / layers + inputs) * tokens)


def _bytes_per_token(
    encoder: Encoder, chunk: TextChunk, dtype: torch.dtype | None, recompute: bool = False
) -> float:
    """What each further text adds to the tensors saved for the backward pass, by token."""
    one, two = ((chunk.ids[:1].expand(n, -1), chunk.mask[:1].expand(n, -1)) for n in (1, 2))
    devices = [encoder.device] if encoder.device.type == "cuda" else []
    before = encoder.training
    with torch.random.fork_rng(devices=devices):
        encoder.train(not recompute)  # outside of training nothing is recomputed, so all is seen
        saved = [_saved_bytes(encoder, ids, mask, dtype) for ids, mask in (one, two)]
        encoder.train(before)
    return (saved[1] - saved[0]) / chunk.ids.shape[1]


def _saved_bytes(module: nn.Module, ids: Tensor, mask: Tensor, dtype: torch.dtype | None) -> int:
    own: Sequence[int] = [p.untyped_storage().data_ptr() for p in module.parameters()]
    weights, seen = set(own), dict[int, int]()

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return value

    with (
        torch.enable_grad(),
        torch.autocast(ids.device.type, dtype=dtype, enabled=dtype is not None),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value),
    ):
        kept = module(ids, mask)  # alive, so that no address is used twice
    del kept
    return sum(seen.values())


def _readable(size: int) -> str:
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"
