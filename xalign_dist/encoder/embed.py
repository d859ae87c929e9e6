"""Many texts to vectors, fast: each text once, like lengths together, bf16 where the CPU has it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch

from xalign_dist.encoder.model import Encoder, Side
from xalign_dist.errors import ModelError
from xalign_dist.records import Float32

Precision = Literal["auto", "fp32", "bf16"]

# A batch of 64 texts of this many tokens keeps two cores busy; shorter texts ride in larger batches.
_TYPICAL_TOKENS = 32
_MAX_ROWS_FACTOR = 4


@functools.cache
def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware; without it bf16 is slower than float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and torch.cpu._is_avx512_bf16_supported()


def autocast_dtype(device: torch.device, precision: Precision) -> torch.dtype | None:
    """The autocast type for ``precision`` on ``device``; None: plain float32."""
    if precision == "fp32":
        return None
    if precision == "bf16":
        return torch.bfloat16
    capable = torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_has_bf16()
    return torch.bfloat16 if capable else None


def length_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices of texts by falling length, at most ``batch_size`` typical texts' tokens at once."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    budget = batch_size * _TYPICAL_TOKENS
    at = 0
    while at < len(order):
        rows = max(1, min(budget // lengths[order[at]], batch_size * _MAX_ROWS_FACTOR))
        yield order[at : at + rows]
        at += rows


def embed_texts(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
    precision: Precision = "auto",
    side: Side = "query",
) -> Float32:
    """Unit vectors, float32 ``[N, D]``, in the order of ``texts``; each distinct text is encoded once.

    Raises:
        ModelError: a vector is not finite; the text is named.
    """
    return _run(encoder, texts, None, batch_size, precision, side)[0]


def embed_views(
    encoder: Encoder,
    texts: Sequence[str],
    view_layer: int,
    *,
    batch_size: int = 64,
    precision: Precision = "auto",
    side: Side = "query",
) -> tuple[Float32, Float32]:
    """As :func:`embed_texts`, with the vectors of an earlier layer from the same pass: two ``[N, D]``."""
    main, view = _run(encoder, texts, view_layer, batch_size, precision, side)
    return main, view


def _run(
    encoder: Encoder,
    texts: Sequence[str],
    view_layer: int | None,
    batch_size: int,
    precision: Precision,
    side: Side,
) -> list[Float32]:
    unique: dict[str, int] = {}
    inverse = np.array([unique.setdefault(t, len(unique)) for t in texts], dtype=np.int64)
    tokens = encoder.tokenize(list(unique), side=side)
    dtype = autocast_dtype(encoder.device, precision)
    out: list[Float32] = []
    was_training = encoder.training
    encoder.eval()
    try:
        with (
            torch.inference_mode(),
            torch.autocast(encoder.device.type, dtype or torch.bfloat16, enabled=dtype is not None),
        ):
            for rows in length_batches([len(t) for t in tokens], batch_size):
                ids_BT, mask_BT = encoder.collate([tokens[i] for i in rows])
                views = (
                    (encoder(ids_BT, mask_BT),)
                    if view_layer is None
                    else encoder.forward_views(ids_BT, mask_BT, view_layer)
                )
                if not out:
                    out = [np.empty((len(unique), v.shape[1]), np.float32) for v in views]
                for array, vectors_BD in zip(out, views, strict=True):
                    array[rows] = vectors_BD.cpu().numpy()
    finally:
        encoder.train(was_training)
    if not out:
        out = [np.empty((0, encoder.dim), np.float32)] * (1 if view_layer is None else 2)
    _require_finite(out[0], list(unique))
    return [array[inverse] for array in out]


def _require_finite(vectors_ND: Float32, texts: list[str]) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors_ND).all(1))
    if len(bad):
        raise ModelError(
            f"{len(bad)} vectors are not finite, first: text {texts[int(bad[0])][:60]!r}",
            "use precision fp32, or another checkpoint: this one is damaged or diverged",
        )


class Embedder:
    """An :class:`~xalign_dist.records.EmbedFn` over an encoder in this process."""

    def __init__(self, encoder: Encoder, batch_size: int = 64, precision: Precision = "auto") -> None:
        self.encoder, self.batch_size, self.precision = encoder, batch_size, precision

    def __call__(self, texts: Sequence[str]) -> Float32:
        """Unit vectors ``[N, D]`` of ``texts``."""
        return embed_texts(self.encoder, texts, batch_size=self.batch_size, precision=self.precision)
