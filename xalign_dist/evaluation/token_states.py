"""States of words in context, from an encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from xalign_dist.encoder.model import Encoder
from xalign_dist.errors import ModelError
from xalign_dist.evaluation.context import TokenStatesFn
from xalign_dist.records import Float32

WORD_LAYER = 6


def encoder_word_states(encoder: Encoder, layer: int | None = None, batch_size: int = 32) -> TokenStatesFn:
    """A :class:`TokenStatesFn`: the mean over a word's pieces of the encoder's hidden states.

    Words that are cut off (``max_tokens``) or have no pieces get zeros, which are never linked.

    Args:
        encoder: its prefix is put before the words, as a word that is left out of the answer.
        layer: hidden layer, from the last (-1) or from the embeddings (0). None: the sixth, or the
            last of a shallower model. Middle layers align words best: AER of e5-small with 12
            layers on eng-spa dev is .24 after the first, .15 after the fifth to seventh, .19 after
            the eleventh; cut to 4 layers the last is best (.17).
        batch_size: sentences at once.

    Raises:
        ModelError: the tokenizer cannot tell which word a piece belongs to.
    """
    if not getattr(encoder.tokenizer, "is_fast", False):
        raise ModelError(
            "the tokenizer has no word offsets", "use a model with a fast tokenizer (tokenizer.json)"
        )
    prefix = encoder.query_prefix.split()
    depth = int(encoder.backbone.config.num_hidden_layers)
    chosen = min(WORD_LAYER, depth) if layer is None else layer

    def states(sentences: Sequence[Sequence[str]]) -> Sequence[Float32]:
        out: list[Float32] = []
        for start in range(0, len(sentences), batch_size):
            out += _batch(
                encoder, [[*prefix, *words] for words in sentences[start : start + batch_size]], chosen
            )
        return [rows_TH[len(prefix) :] for rows_TH in out]

    return states


def _batch(encoder: Encoder, sentences: list[list[str]], layer: int) -> list[Float32]:
    batch = encoder.tokenizer(
        sentences, is_split_into_words=True, truncation=True, max_length=encoder.max_tokens, padding=False
    )
    rows = encoder.rows
    ids = [i if rows is None else rows[i].tolist() for i in batch["input_ids"]]
    training = encoder.training
    encoder.eval()
    with torch.inference_mode():
        ids_BT, mask_BT = encoder.collate(ids)
        states_BTH = encoder.token_states(ids_BT, mask_BT, layer).cpu().numpy()
    encoder.train(training)
    mask = mask_BT.cpu().numpy().astype(bool)
    return [
        _words(states_BTH[i][mask[i]], batch.word_ids(i), len(words)) for i, words in enumerate(sentences)
    ]


def _words(states_TH: Float32, word_of_T: Sequence[int | None], words: int) -> Float32:
    sums = np.zeros((words, states_TH.shape[1]), np.float32)
    pieces = np.zeros((words, 1), np.float32)
    for state_H, word in zip(states_TH, word_of_T, strict=True):
        if word is not None:
            sums[word] += state_H
            pieces[word] += 1
    return np.asarray(sums / np.maximum(pieces, 1), np.float32)
