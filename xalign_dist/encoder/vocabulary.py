"""Only the embedding rows that a corpus uses are trained; the saved model has them all again.

Multilingual vocabularies hold 250,000 pieces and a corpus uses some 20,000: without trimming the
optimizer's dense work on unused rows costs more than the transformer layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from xalign_dist.encoder.layers import base_model, position_padding
from xalign_dist.encoder.model import Encoder, Side, TrimmedVocabulary, special_id
from xalign_dist.errors import ModelError
from xalign_dist.records import Int64

_BLOCK_TEXTS = 10_000


def used_ids(encoder: Encoder, texts: Iterable[str]) -> Int64:
    """Full-vocabulary ids that ``texts`` (with either prefix) and special tokens use, ascending ``[R]``."""
    tokenizer, size = encoder.tokenizer, _table(encoder).num_embeddings
    seen_V = np.zeros(size, dtype=bool)
    special = [special_id(tokenizer, "pad"), special_id(tokenizer, "unk", "eos", "pad")]
    seen_V[[i for i in (*tokenizer.all_special_ids, *special) if i < size]] = True
    # Positions that are counted from the padding id need it where it is: ids before it stay.
    seen_V[: position_padding(encoder.backbone) or 0] = True
    sides: tuple[Side, ...] = ("query", "passage")
    if encoder.query_prefix == encoder.passage_prefix:
        sides = ("query",)
    stream = iter(texts)
    while block := list(islice(stream, _BLOCK_TEXTS)):
        for side in sides:
            ids = encoder.full_ids(block, side=side)
            seen_V[np.fromiter(chain.from_iterable(ids), dtype=np.int64)] = True
    return np.flatnonzero(seen_V)


def trim_vocabulary(encoder: Encoder, texts: Iterable[str]) -> None:
    """Shrink the embedding matrix to the rows of ``texts`` and special tokens, in place.

    The vectors of ``texts`` do not change. Other pieces are read as the unknown token until
    :func:`restore_vocabulary`. Call it before an optimizer takes the parameters.

    Raises:
        ModelError: the encoder is trimmed already.
    """
    if encoder.trimmed is not None:
        raise ModelError("the encoder's vocabulary is trimmed already", "call restore_vocabulary first")
    table = _table(encoder)
    kept_R = used_ids(encoder, texts)
    unknown = special_id(encoder.tokenizer, "unk", "eos", "pad")
    rows_V = np.full(table.num_embeddings, np.searchsorted(kept_R, unknown), dtype=np.int64)
    rows_V[kept_R] = np.arange(len(kept_R))
    weight_VD = table.weight.detach()
    small_RD = weight_VD[torch.from_numpy(kept_R).to(weight_VD.device)].clone()
    full_VD = _on_file(encoder, weight_VD)
    if full_VD is None:
        full_VD = weight_VD.cpu()
    encoder.trimmed = TrimmedVocabulary(kept_R, rows_V, full_VD)
    padding = table.padding_idx
    _set_rows(encoder, small_RD, None if padding is None else int(rows_V[padding]))


def restored_matrix(encoder: Encoder) -> Tensor:
    """The full embedding matrix ``[V, D]`` on the CPU, trained rows in their places; a copy.

    Raises:
        ModelError: the encoder is not trimmed.
    """
    if encoder.trimmed is None:
        raise ModelError("the encoder's vocabulary is not trimmed", "save or use it as it is")
    weight_RD = _table(encoder).weight.detach().cpu()
    full_VD = encoder.trimmed.full_VD.to(weight_RD.dtype, copy=True)
    full_VD[torch.from_numpy(encoder.trimmed.kept_R)] = weight_RD
    return full_VD


def restore_vocabulary(encoder: Encoder) -> None:
    """Undo :func:`trim_vocabulary`, keeping what the trained rows learned. No-op when not trimmed."""
    if encoder.trimmed is None:
        return
    padding = _table(encoder).padding_idx
    full_padding = None if padding is None else int(encoder.trimmed.kept_R[padding])
    full_VD = restored_matrix(encoder).to(encoder.device)
    encoder.trimmed = None
    _set_rows(encoder, full_VD, full_padding)


def _table(encoder: Encoder) -> nn.Embedding:
    table: nn.Embedding = encoder.backbone.get_input_embeddings()
    return table


def _set_rows(encoder: Encoder, weight_RD: Tensor, padding: int | None) -> None:
    # The module stays: some families' embeddings scale what they look up.
    table = _table(encoder)
    table.weight = nn.Parameter(weight_RD, requires_grad=table.weight.requires_grad)
    table.num_embeddings = len(weight_RD)
    table.padding_idx = padding
    base_model(encoder.backbone).config.vocab_size = len(weight_RD)


def _on_file(encoder: Encoder, weight_VD: Tensor) -> Tensor | None:
    """The same matrix mapped from the model's file, so that it takes no memory; None: not there."""
    if encoder.source is None:
        return None
    live = weight_VD.cpu()
    for path in sorted(encoder.source.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                if file.get_slice(name).get_shape() == list(live.shape):
                    found: Tensor = file.get_tensor(name)
                    if found.dtype == live.dtype and torch.equal(found, live):
                        return found
    return None
