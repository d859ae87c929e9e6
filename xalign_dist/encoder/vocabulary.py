"""Only the embedding rows that a corpus uses are trained; the saved model has them all again.

Multilingual vocabularies hold 250,000 pieces and a corpus uses some 20,000: without trimming
the optimizer's dense work on unused rows costs more than the transformer layers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from xalign_dist.encoder.model import Encoder
from xalign_dist.errors import DataError

_BLOCK = 10_000


def used_ids(encoder: Encoder, texts: Iterable[str]) -> np.ndarray:
    """Sorted full-vocabulary ids that ``texts`` and the special tokens use, int64 ``[R]``."""
    used = {int(i) for i in encoder.tokenizer.all_special_ids}
    block: list[str] = []
    for text in texts:
        block.append(text)
        if len(block) == _BLOCK:
            _collect(encoder, block, used)
            block = []
    _collect(encoder, block, used)
    return np.array(sorted(used), dtype=np.int64)


def _collect(encoder: Encoder, texts: list[str], used: set[int]) -> None:
    for side in ("query", "passage"):
        if side == "passage" and encoder.passage_prefix == encoder.query_prefix:
            break
        for ids in encoder.tokenize(texts, side=side):
            used.update(ids)


def trim_vocabulary(encoder: Encoder, texts: Iterable[str]) -> None:
    """Shrink the embedding matrix to the rows of ``texts``, in place.

    Pieces outside map to the unknown token while trimmed; :func:`restore_vocabulary` brings
    them back. The vectors of ``texts`` do not change.

    Raises:
        DataError: the encoder is trimmed already.
    """
    if encoder.rows is not None:
        raise DataError("the vocabulary is trimmed already", "call restore_vocabulary first")
    ids = used_ids(encoder, texts)
    old = encoder.backbone.get_input_embeddings()
    full = old.weight.detach()
    tokenizer = encoder.tokenizer
    fallback = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.all_special_ids[0]
    rows = np.full(full.shape[0], int(np.searchsorted(ids, fallback)), dtype=np.int64)
    rows[ids] = np.arange(len(ids))
    small = full[torch.from_numpy(ids).to(full.device)].clone()
    encoder.full_embedding = full.cpu()
    encoder.rows = rows
    padding = old.padding_idx
    encoder.backbone.set_input_embeddings(
        nn.Embedding.from_pretrained(
            small, freeze=False, padding_idx=None if padding is None else int(rows[padding])
        )
    )
    encoder.backbone.config.vocab_size = len(ids)


def restored_matrix(encoder: Encoder) -> torch.Tensor:
    """The full embedding matrix ``[V, D]`` with the trained rows in their places."""
    assert encoder.rows is not None and encoder.full_embedding is not None
    full = encoder.full_embedding.clone()
    weight = encoder.backbone.get_input_embeddings().weight.detach().cpu().to(full.dtype)
    rows = encoder.rows
    # The fallback row is reached by many ids; only the id that owns a row may write to it.
    owner = np.zeros(len(weight), dtype=np.int64)
    owner[rows[::-1]] = np.arange(len(rows))[::-1]
    fallback = int(np.bincount(rows).argmax())
    unk = encoder.tokenizer.unk_token_id
    owner[fallback] = unk if unk is not None else encoder.tokenizer.all_special_ids[0]
    full[torch.from_numpy(owner)] = weight
    return full


def restore_vocabulary(encoder: Encoder) -> None:
    """Undo :func:`trim_vocabulary`, keeping what the trained rows learned. No-op when not trimmed."""
    if encoder.rows is None:
        return
    full = restored_matrix(encoder).to(encoder.device)
    padding = encoder.tokenizer.pad_token_id
    encoder.backbone.set_input_embeddings(
        nn.Embedding.from_pretrained(full, freeze=False, padding_idx=padding)
    )
    encoder.backbone.config.vocab_size = full.shape[0]
    encoder.rows, encoder.full_embedding = None, None
