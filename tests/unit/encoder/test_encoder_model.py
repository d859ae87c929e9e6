import pytest
import torch
from encoder_world import DECODERS, ENCODERS, KINDS, LAYERS, TEXTS

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder.pooling import pool
from xalign_dist.errors import ConfigError, ModelError


def batch(encoder, texts=TEXTS):
    return encoder.collate(encoder.tokenize(texts))


def hidden_states(encoder, ids, mask):
    inputs = encoder._inputs(ids, mask)
    return encoder.backbone(**inputs, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_unit_float32_and_padding_changes_nothing(tiny, kind):
    encoder = tiny(kind)
    with torch.inference_mode():
        together = encoder(*batch(encoder))
        alone = torch.cat([encoder(*batch(encoder, [text])) for text in TEXTS])
    assert together.dtype == torch.float32
    assert together.shape == (len(TEXTS), encoder.dim)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(len(TEXTS)))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(together[0], together[4])
    assert (together[0] @ together[5]) < 0.999


@pytest.mark.parametrize(("kind", "side"), [(k, "right") for k in ENCODERS] + [(k, "left") for k in DECODERS])
def test_encoders_pad_right_and_decoders_left(tiny, kind, side):
    encoder = tiny(kind)
    assert encoder.causal == (kind in DECODERS)
    assert encoder.pooling == ("last" if kind in DECODERS else "mean")
    ids, mask = encoder.collate([[5, 6, 7], [8]])
    pad = encoder.tokenizer.pad_token_id
    assert ids.tolist()[1] == ([8, pad, pad] if side == "right" else [pad, pad, 8])
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0] if side == "right" else [0, 0, 1]]


def test_a_decoder_with_mean_pooling_pads_right(tiny):
    encoder = tiny("qwen3", EncoderConfig(pooling="mean"))
    assert encoder.collate([[5, 6], [8]])[1].tolist() == [[1, 1], [1, 0]]


def test_an_encoder_with_last_pooling_takes_the_end_token_at_the_right(tiny):
    encoder = tiny("xlmr", EncoderConfig(pooling="last"))
    ids, mask = encoder.collate([[5, 6, 7], [8]])
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    with torch.inference_mode():
        states = encoder.token_states(ids, mask)
        expected = torch.nn.functional.normalize(torch.stack([states[0, 2], states[1, 0]]), dim=-1)
        torch.testing.assert_close(encoder(ids, mask), expected)


def test_pooling_of_known_states_ignores_padding_on_either_side():
    states = torch.tensor([[[1.0], [3.0], [100.0]], [[100.0], [5.0], [9.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert pool(states, mask, "mean").tolist() == [[2.0], [7.0]]
    assert pool(states, mask, "cls").tolist() == [[1.0], [5.0]]
    assert pool(states, mask, "last").tolist() == [[3.0], [9.0]]


def test_tokens_are_cut_prefixed_and_never_empty(tiny):
    encoder = tiny("bert", EncoderConfig(max_tokens=8, query_prefix="w1 ", passage_prefix="w2 w3 "))
    query, passage = encoder.tokenize(["w9"])[0], encoder.tokenize(["w9"], side="passage")[0]
    decode = encoder.tokenizer.convert_ids_to_tokens
    assert decode(query) == ["<s>", "w1", "w9", "</s>"]
    assert decode(passage) == ["<s>", "w2", "w3", "w9", "</s>"]
    assert decode(encoder.tokenize(["w9 " * 50])[0]) == ["<s>", "w1", *["w9"] * 5, "</s>"]
    assert encoder.tokenize([]) == []


def test_a_text_without_tokens_gets_the_end_token(tiny):
    encoder = tiny("qwen3")
    assert encoder.tokenize(["", "wx"]) == [[encoder.tokenizer.eos_token_id], [256]]


@pytest.mark.parametrize("kind", KINDS)
def test_views_and_token_states_are_the_hidden_states_of_their_layer(tiny, kind):
    encoder = tiny(kind)
    ids, mask = batch(encoder)
    with torch.inference_mode():
        plain, states = encoder(ids, mask), hidden_states(encoder, ids, mask)
        assert len(states) == LAYERS + 1
        for layer in range(-LAYERS - 1, LAYERS + 1):
            main, view = encoder.forward_views(ids, mask, layer)
            pooled = torch.nn.functional.normalize(pool(states[layer], mask, encoder.pooling), dim=-1)
            assert torch.equal(main, plain)
            torch.testing.assert_close(view, pooled)
            torch.testing.assert_close(encoder.token_states(ids, mask, layer), states[layer])
        assert torch.equal(encoder(ids, mask), plain)


def test_token_states_run_only_the_layers_they_need(tiny):
    encoder, ran = tiny("bert"), []
    for i, layer in enumerate(encoder.backbone.encoder.layer):
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))
    ids, mask = batch(encoder)
    encoder.token_states(ids, mask, 1)
    assert ran == [0]
    ran.clear()
    encoder.forward_views(ids, mask, 1)
    assert ran == [0, 1, 2]


@pytest.mark.parametrize("layer", [LAYERS + 1, -LAYERS - 2])
def test_a_layer_that_is_not_there_is_named(tiny, layer):
    encoder = tiny("bert")
    with pytest.raises(ModelError, match=rf"layer {layer}: the encoder has 3 layers"):
        encoder.forward_views(*batch(encoder), layer)


def test_the_gradient_of_a_view_reaches_only_the_layers_below(tiny):
    encoder = tiny("xlmr")
    _, view = encoder.forward_views(*batch(encoder), 1)
    view.sum().backward()
    layers = encoder.backbone.encoder.layer
    assert layers[0].output.dense.weight.grad.abs().sum() > 0
    assert layers[1].output.dense.weight.grad is None


def test_pooling_head_and_norm_are_float32_under_autocast(tiny):
    encoder = tiny("bert", EncoderConfig(projection="mlp", projection_dim=5))
    ids, mask = batch(encoder)
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            vectors, states = encoder(ids, mask), encoder.token_states(ids, mask)
        expected = torch.nn.functional.normalize(encoder.head(pool(states, mask, "mean")), dim=-1)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("prefix", ["", "w40 "])
def test_texts_without_a_token_of_their_own_are_told(tiny, prefix):
    encoder = tiny("bert", EncoderConfig(query_prefix=prefix))
    texts = ["w1", "", "   ", "\u043d\u0435 w1", "\u043d\u0435\u0442", "w40 w1"]
    told = encoder.says_nothing(encoder.full_ids(texts), side="query")
    assert told.tolist() == [False, True, True, False, True, False]


def test_a_byte_tokenizer_knows_every_script(tiny):
    encoder = tiny("qwen3")
    assert encoder.says_nothing(encoder.full_ids(["", "\u043d\u0435\u0442"])).tolist() == [True, False]


def test_a_prefix_that_leaves_no_room_is_refused(tiny):
    with pytest.raises(ConfigError, match=r"encoder\.passage_prefix alone fills encoder\.max_tokens=8"):
        tiny("bert", EncoderConfig(passage_prefix="w1 w2 w3 w4 w5 w6 ", max_tokens=8))
    tiny("bert", EncoderConfig(passage_prefix="w1 w2 w3 w4 w5 ", max_tokens=8))
