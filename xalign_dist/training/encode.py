"""Encoding a batch: texts of both sides, length-bucketed into chunks, and put back in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xalign_dist.batches.batch import Batch
from xalign_dist.batches.buckets import length_chunks, padding_share
from xalign_dist.config.model import TrainingConfig
from xalign_dist.encoder import Encoder
from xalign_dist.objective.gather import max_over_ranks
from xalign_dist.records import Int64

#: A length bucket: texts (at most twice ``chunk_pairs``) and padded tokens it may hold. A core multiplies
#: few rows as fast as many (measured: 8 to 32 texts a bucket alike, one bucket of 128 at less than half
#: the pairs/s, padding four fifths); a GPU needs rows to be busy.
_CPU_BUCKET = (32, 1024)
_GPU_BUCKET = (512, 32768)


@dataclass(frozen=True)
class TextChunk:
    """Texts encoded together: ``ids`` and ``mask`` ``[R, L]``; ``rows_R`` are their places among 2B.

    Places 0..B-1 are the sources, B..2B-1 the targets. ``filler`` chunks hold no text of the batch:
    they keep this rank in step with ranks that have more chunks, and their gradient is zero.
    """

    ids: Tensor
    mask: Tensor
    rows_R: Tensor
    filler: bool = False


@dataclass(frozen=True)
class ChunkPlan:
    """The chunks of one rank's batch.

    Attributes:
        chunks: as many on every rank.
        padding_share: share of the encoded tokens that is padding.
        fit: so many of them, from the first on, hold no more than ``chunk_pairs`` pairs together; the same
            number on every rank.
    """

    chunks: list[TextChunk]
    padding_share: float
    fit: int

    def restore(self, parts: list[Tensor]) -> Tensor:
        """Embeddings of all chunks in their order -> ``[2B, D]`` in the batch's order."""
        texts = [(c, p) for c, p in zip(self.chunks, parts, strict=True) if not c.filler]
        places = torch.cat([chunk.rows_R for chunk, _ in texts])
        return torch.cat([part for _, part in texts])[torch.argsort(places)]


@dataclass(frozen=True)
class CutBatch:
    """A rank's batch in chunks on the encoder's device; ``shortest``: one text, for filler chunks."""

    chunks: list[TextChunk]
    shortest: tuple[Tensor, Tensor]
    padding_share: float


def cut_batch(batch: Batch, encoder: Encoder, config: TrainingConfig) -> CutBatch:
    """Cut a batch into padded chunks; safe beside the step, in the thread that reads ahead.

    The batch's token ids are of the whole vocabulary; a trimmed encoder's rows are looked up here, so
    that a training set serves trimmed and untrimmed encoders alike.
    """
    tokens = [*batch.src_tokens, *batch.tgt_tokens]
    if encoder.rows is not None:
        tokens = [encoder.rows[text].tolist() for text in tokens]
    lengths = np.array([len(t) for t in tokens], dtype=np.int64)
    places = _places(lengths, config, encoder.device)
    chunks = []
    for place_R in places:
        ids, mask = encoder.collate([tokens[i] for i in place_R])
        chunks.append(TextChunk(ids, mask, torch.from_numpy(place_R)))
    shortest = encoder.collate([tokens[int(lengths.argmin())]])
    return CutBatch(chunks, shortest, padding_share(lengths, places))


def plan_chunks(batch: Batch, encoder: Encoder, config: TrainingConfig, device: torch.device) -> ChunkPlan:
    """The chunks of a batch on ``device``. Every rank gets the same number (ZeRO's collectives count on it).

    Cut now, where :attr:`Batch.prepared` does not hold them already.
    """
    cut = batch.prepared if isinstance(batch.prepared, CutBatch) else cut_batch(batch, encoder, config)
    chunks = [TextChunk(c.ids.to(device), c.mask.to(device), c.rows_R.to(device)) for c in cut.chunks]
    ids, mask = cut.shortest
    empty = torch.zeros(0, dtype=torch.int64, device=device)
    for _ in range(max_over_ranks(len(chunks), device) - len(chunks)):
        chunks.append(TextChunk(ids.to(device), mask.to(device), empty, filler=True))
    rows = _bucket(config, device, len(batch.src_tokens))[0]
    fit = len(chunks) if config.chunk_pairs is None else max(1, 2 * config.chunk_pairs // rows)
    return ChunkPlan(chunks, cut.padding_share, min(fit, len(chunks)))


def _places(lengths: Int64, config: TrainingConfig, device: torch.device) -> list[Int64]:
    texts = len(lengths)
    rows, tokens = _bucket(config, device, texts // 2)
    if tokens is not None:
        return length_chunks(lengths, rows, tokens)
    return [np.arange(i, min(i + rows, texts)) for i in range(0, texts, rows)]


def _bucket(config: TrainingConfig, device: torch.device, pairs: int) -> tuple[int, int | None]:
    """Texts that a chunk of a batch of ``pairs`` may hold, and padded tokens (None: any number)."""
    most = 2 * (pairs if config.chunk_pairs is None else config.chunk_pairs)
    if not config.bucket_by_length:
        return most, None
    rows, tokens = _GPU_BUCKET if device.type == "cuda" else _CPU_BUCKET
    return min(rows, most) if config.chunk_pairs is not None else rows, tokens
