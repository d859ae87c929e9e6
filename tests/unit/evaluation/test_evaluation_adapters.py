"""The system's own miner and encoder behind the protocols that tasks use."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from xalign_dist.encoder.model import Encoder
from xalign_dist.errors import ModelError
from xalign_dist.evaluation.miner import system_miner
from xalign_dist.evaluation.mining import mining_scores
from xalign_dist.evaluation.token_states import encoder_word_states
from xalign_dist.evaluation.vectors import unit_rows


def test_the_system_miner_finds_hidden_translations_and_leaves_zero_rows_out():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(150, 24))
    src = unit_rows(np.concatenate([np.zeros((2, 24)), shared, rng.normal(size=(100, 24))]))
    tgt = unit_rows(np.concatenate([shared + 0.3 * rng.normal(size=(150, 24)), rng.normal(size=(120, 24))]))
    rows, columns, confidence = system_miner()(src, tgt)
    assert rows.min() >= 2
    gold = {(i + 2, i) for i in range(150)}
    scores = mining_scores(list(zip(rows.tolist(), columns.tolist(), strict=True)), gold, confidence)
    assert scores.precision > 0.9
    assert scores.recall > 0.9
    assert [len(part) for part in system_miner()(src[:2], tgt)] == [0, 0, 0]


def tiny_encoder(max_tokens=32, prefix=""):
    pieces = ["[PAD]", "[UNK]", "q:", "un", "##do", "it", "now"]
    core = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=7, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
    )
    backbone = BertModel(config, add_pooling_layer=False)
    return Encoder(backbone, tokenizer, max_tokens=max_tokens, query_prefix=prefix).eval()


@pytest.mark.parametrize("prefix", ["", "q: "])
def test_a_word_is_the_mean_of_its_pieces(prefix):
    encoder = tiny_encoder(prefix=prefix)
    words, other = encoder_word_states(encoder)([["undo", "it"], ["now"]])
    assert words.shape == (2, 8)
    assert other.shape == (1, 8)
    ids = encoder.tokenize(["undo it"])
    with torch.inference_mode():
        states = encoder.token_states(*encoder.collate(ids))[0].numpy()[len(prefix.split()) :]
    np.testing.assert_allclose(words[0], states[:2].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(words[1], states[2], atol=1e-5)


def test_words_that_are_cut_off_have_no_state():
    (words,) = encoder_word_states(tiny_encoder(max_tokens=2))([["it", "now", "undo"]])
    assert words[:2].any(axis=1).all()
    assert not words[2].any()


def test_a_tokenizer_without_words_is_refused():
    encoder = tiny_encoder()
    encoder.tokenizer = object()
    with pytest.raises(ModelError, match="fast tokenizer"):
        encoder_word_states(encoder)
