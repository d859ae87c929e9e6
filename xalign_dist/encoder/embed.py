"""Many texts to vectors, fast: each text once, like lengths together, bf16 where the hardware has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from xalign_dist.encoder.model import Encoder, Side
from xalign_dist.encoder.precision import Precision, autocast_dtype
from xalign_dist.errors import ModelError
from xalign_dist.records import Float32, Int64

#: A batch holds the tokens of ``batch_size`` texts of this length; shorter texts ride in larger batches.
_TYPICAL_TOKENS = 32
#: But not without limit: attention and hooks cost by the row too.
_ROWS_FACTOR = 8


def embed_texts(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
    precision: Precision = "auto",
    side: Side = "query",
) -> Float32:
    """Unit vectors, float32 ``[N, D]``, in the order of ``texts``; each distinct text is encoded once.

    Args:
        batch_size: texts of typical length (32 tokens) encoded at once.
        precision: auto: bf16 where the hardware multiplies it.
        side: whose prefix is put before the texts.

    Raises:
        ModelError: a vector is not finite; the text's index is named.
    """
    return _embed(encoder, texts, None, batch_size, precision, side)[0]


def embed_views(
    encoder: Encoder,
    texts: Sequence[str],
    view_layer: int,
    *,
    batch_size: int = 64,
    precision: Precision = "auto",
    side: Side = "query",
) -> tuple[Float32, Float32]:
    """As :func:`embed_texts`, and the unit vectors of an earlier layer from the same pass.

    Returns:
        ``[N, D]`` and ``[N, H]``, H the backbone's width (see :meth:`Encoder.forward_views`).

    Raises:
        ModelError: there is no such layer, or a vector is not finite.
    """
    main, view = _embed(encoder, texts, view_layer, batch_size, precision, side)
    return main, view


class Embedder:
    """An :class:`~xalign_dist.records.EmbedFn` over an encoder in this process."""

    def __init__(self, encoder: Encoder, batch_size: int = 64, precision: Precision = "auto") -> None:
        self.encoder, self.batch_size, self.precision = encoder, batch_size, precision

    def __call__(self, texts: Sequence[str]) -> Float32:
        """Unit vectors ``[N, D]`` of ``texts``."""
        return embed_texts(self.encoder, texts, batch_size=self.batch_size, precision=self.precision)


def length_batches(lengths: Sequence[int], batch_size: int) -> Iterator[Int64]:
    """Indices of texts, longest first, in batches of at most ``batch_size`` * 32 padded tokens."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    budget = batch_size * _TYPICAL_TOKENS
    at = 0
    while at < len(order):
        rows = max(1, min(budget // lengths[order[at]], batch_size * _ROWS_FACTOR))
        yield order[at : at + rows]
        at += rows


def _embed(
    encoder: Encoder,
    texts: Sequence[str],
    view_layer: int | None,
    batch_size: int,
    precision: Precision,
    side: Side,
) -> list[Float32]:
    places: dict[str, int] = {}
    inverse_N = np.fromiter((places.setdefault(t, len(places)) for t in texts), np.int64, len(texts))
    tokens = encoder.tokenize(list(places), side=side)
    device = encoder.device
    dtype = autocast_dtype(precision, device)
    widths = [encoder.dim] if view_layer is None else [encoder.dim, int(encoder.backbone.config.hidden_size)]
    out = [np.empty((len(tokens), width), np.float32) for width in widths]
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            for rows, views in _batches(encoder, tokens, view_layer, batch_size):
                for array, vectors_BD in zip(out, views, strict=True):
                    array[rows] = vectors_BD.cpu().numpy()
    finally:
        encoder.train(was_training)
    _require_finite(out, inverse_N, texts)
    return out if len(places) == len(texts) else [array[inverse_N] for array in out]


def _batches(
    encoder: Encoder, tokens: list[list[int]], view_layer: int | None, batch_size: int
) -> Iterator[tuple[Int64, tuple[Tensor, ...]]]:
    """Rows and their vectors, one batch late: on a GPU the next batch runs while this one is copied."""
    late: tuple[Int64, tuple[Tensor, ...]] | None = None
    for rows in length_batches([len(t) for t in tokens], batch_size):
        ids_BT, mask_BT = encoder.collate([tokens[i] for i in rows])
        if view_layer is None:
            views: tuple[Tensor, ...] = (encoder(ids_BT, mask_BT),)
        else:
            views = encoder.forward_views(ids_BT, mask_BT, view_layer)
        if late is not None:
            yield late
        late = rows, views
    if late is not None:
        yield late


def _require_finite(arrays: list[Float32], inverse_N: Int64, texts: Sequence[str]) -> None:
    for array in arrays:
        bad = np.flatnonzero(~np.isfinite(array).all(1))
        if len(bad):
            index = int(np.flatnonzero(np.isin(inverse_N, bad))[0])
            raise ModelError(
                f"{len(bad)} vectors are not finite, first: text {index}, {texts[index][:60]!r}",
                "use precision fp32, or another checkpoint: this one is damaged or diverged",
            )
