import pickle

import numpy as np
import pytest
import torch
from encoder_world import KINDS, TEXTS, write_tiny

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder import embed_texts, load_encoder, restore_vocabulary, save_encoder, trim_vocabulary
from xalign_dist.encoder.vocabulary import restored_matrix, used_ids
from xalign_dist.errors import ModelError

UNSEEN = ["w50 w51 w1", "w52"]


def embed(encoder, texts=TEXTS):
    return embed_texts(encoder, texts, precision="fp32")


def table(encoder):
    return encoder.backbone.get_input_embeddings()


@pytest.mark.parametrize("kind", KINDS)
def test_trimming_changes_no_vector_of_the_texts_and_restoring_none_at_all(tiny, kind):
    encoder = tiny(kind)
    before, unseen, rows = embed(encoder), embed(encoder, UNSEEN), table(encoder).num_embeddings
    trim_vocabulary(encoder, iter(TEXTS))
    assert table(encoder).num_embeddings < rows / 2
    assert encoder.tokenizer.pad_token_id == encoder.trimmed.kept_R[table(encoder).padding_idx]
    assert encoder.backbone.config.vocab_size == len(table(encoder).weight) == table(encoder).num_embeddings
    np.testing.assert_array_equal(embed(encoder), before)
    restore_vocabulary(encoder)
    assert encoder.rows is None
    assert encoder.backbone.config.vocab_size == rows
    np.testing.assert_allclose(embed(encoder, TEXTS + UNSEEN), np.concatenate([before, unseen]), atol=1e-6)


def test_the_rows_kept_are_those_used_and_the_special_ones(tiny):
    encoder = tiny("xlmr", EncoderConfig(query_prefix="w40 ", passage_prefix="w41 "))
    ids = encoder.tokenizer.convert_tokens_to_ids(["<s>", "[PAD]", "</s>", "[UNK]", "w1", "w40", "w41"])
    assert used_ids(encoder, ["w1"]).tolist() == sorted(ids)


def test_what_was_not_seen_is_read_as_unknown(tiny):
    encoder = tiny("bert")
    trim_vocabulary(encoder, TEXTS)
    unknown = int(encoder.rows[encoder.tokenizer.unk_token_id])
    assert encoder.tokenize(["w50 w1"])[0][1] == unknown
    assert encoder.tokenize(["w50 w1"])[0][2] != unknown


def test_neither_state_nor_parameters_hold_the_full_matrix(tiny):
    encoder = tiny("bert")
    full = table(encoder).weight.shape
    trim_vocabulary(encoder, TEXTS)
    assert all(v.shape != full for v in encoder.state_dict().values())
    assert all(p.shape != full for p in encoder.parameters())
    assert encoder.trimmed.full_VD.shape == full


def test_the_full_matrix_is_mapped_from_the_file_where_it_is_unchanged(tiny, tiny_dirs):
    encoder = tiny("bert")
    weight = table(encoder).weight
    trim_vocabulary(encoder, TEXTS)
    mapped = encoder.trimmed.full_VD
    assert mapped.untyped_storage().data_ptr() != weight.untyped_storage().data_ptr()
    assert torch.equal(mapped, weight)
    changed = tiny("bert")
    with torch.no_grad():
        table(changed).weight[7] += 1
    weight = table(changed).weight
    trim_vocabulary(changed, TEXTS)
    assert torch.equal(changed.trimmed.full_VD, weight)
    assert torch.equal(restored_matrix(changed), weight)


@pytest.mark.parametrize("kind", ["xlmr", "mistral"])
def test_training_moves_the_rows_used_and_no_other(tiny, kind, tmp_path):
    encoder = tiny(kind)
    full = table(encoder).weight.detach().clone()
    trim_vocabulary(encoder, TEXTS)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.5)
    encoder(*encoder.collate(encoder.tokenize(TEXTS)))[:, 0].sum().backward()
    optimizer.step()
    trained = embed(encoder)
    save_encoder(encoder, str(tmp_path / "m"))
    np.testing.assert_allclose(embed(encoder), trained)
    moved = (restored_matrix(encoder) != full).any(1)
    used = np.zeros(len(full), dtype=bool)
    used[[i for text in tiny(kind).tokenize(TEXTS) for i in text]] = True
    assert moved[used].any()
    assert not moved[~used].any()
    saved = load_encoder(str(tmp_path / "m"), device="cpu")
    np.testing.assert_allclose(embed(saved), trained, atol=1e-6)
    restore_vocabulary(encoder)
    np.testing.assert_allclose(embed(encoder, UNSEEN), embed(saved, UNSEEN), atol=1e-6)
    assert table(encoder).weight.requires_grad


def test_positions_of_roberta_stay_when_words_before_the_padding_go(tmp_path):
    encoder = load_encoder(str(write_tiny(tmp_path, "xlmr", first=("never", "used"))), device="cpu")
    before = embed(encoder)
    trim_vocabulary(encoder, TEXTS)
    pad = encoder.tokenizer.pad_token_id
    assert encoder.rows[pad] == pad == 3
    np.testing.assert_array_equal(embed(encoder), before)


def test_under_lora_the_rows_stay_frozen(tiny):
    encoder = tiny("bert", EncoderConfig(lora_rank=2))
    before = embed(encoder)
    trim_vocabulary(encoder, TEXTS)
    assert not table(encoder).weight.requires_grad
    np.testing.assert_array_equal(embed(encoder), before)


def test_a_trimmed_encoder_travels_between_processes(tiny):
    encoder = tiny("bert")
    trim_vocabulary(encoder, TEXTS)
    other = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(embed(other), embed(encoder))
    assert torch.equal(restored_matrix(other), restored_matrix(encoder))


def test_wrong_turns_are_refused(tiny):
    encoder = tiny("bert")
    restore_vocabulary(encoder)
    with pytest.raises(ModelError, match="not trimmed"):
        restored_matrix(encoder)
    trim_vocabulary(encoder, [])
    with pytest.raises(ModelError, match="trimmed already"):
        trim_vocabulary(encoder, TEXTS)
