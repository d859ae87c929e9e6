import numpy as np
import pytest
import torch
from encoder_world import TEXTS, WIDTH

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder import Embedder, embed_texts, embed_views
from xalign_dist.encoder.embed import length_batches
from xalign_dist.encoder.precision import autocast_dtype
from xalign_dist.errors import ConfigError, ModelError


def test_each_distinct_text_is_encoded_once_and_given_back_in_order(tiny):
    encoder, rows = tiny("bert"), []
    encoder.backbone.register_forward_pre_hook(
        lambda _, __, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    vectors = embed_texts(encoder, TEXTS * 3)
    assert sum(rows) == len(set(TEXTS))
    assert vectors.shape == (3 * len(TEXTS), WIDTH)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors[: len(TEXTS)], vectors[len(TEXTS) : 2 * len(TEXTS)])
    reverse = embed_texts(encoder, TEXTS[::-1])
    np.testing.assert_allclose(reverse[::-1], vectors[: len(TEXTS)], atol=1e-6)


def test_no_texts_give_no_vectors(tiny):
    encoder = tiny("bert", EncoderConfig(projection="linear", projection_dim=5))
    assert embed_texts(encoder, []).shape == (0, 5)
    main, view = embed_views(encoder, [], -2)
    assert main.shape == (0, 5)
    assert view.shape == (0, WIDTH)


@pytest.mark.parametrize("training", [True, False])
def test_embedding_is_without_dropout_or_gradient_and_the_mode_is_given_back(tiny, training):
    encoder = tiny("bert").train(training)
    np.testing.assert_array_equal(embed_texts(encoder, TEXTS), embed_texts(encoder, TEXTS))
    assert encoder.training is training
    encoder(*encoder.collate(encoder.tokenize(TEXTS))).sum().backward()
    with pytest.raises(ModelError):
        embed_views(encoder, TEXTS, 99)
    assert encoder.training is training


def test_the_second_view_comes_from_the_same_pass(tiny):
    encoder, passes = tiny("xlmr"), []
    encoder.backbone.register_forward_hook(lambda *_: passes.append(1))
    main, view = embed_views(encoder, TEXTS, -2, precision="fp32")
    assert passes == [1]
    np.testing.assert_array_equal(main, embed_texts(encoder, TEXTS, precision="fp32"))
    np.testing.assert_allclose(np.linalg.norm(view, axis=1), 1, atol=1e-6)
    assert np.abs(main - view).max() > 0.1


def test_a_side_has_its_prefix(tiny):
    encoder = tiny("bert", EncoderConfig(passage_prefix="w7 "))
    plain = embed_texts(encoder, ["w7 w1", "w1"], precision="fp32")
    passage = embed_texts(encoder, ["w1"], precision="fp32", side="passage")
    np.testing.assert_allclose(passage[0], plain[0], atol=1e-6)
    assert np.abs(passage[0] - plain[1]).max() > 1e-3


def test_a_vector_that_is_not_finite_names_the_text(tiny):
    encoder = tiny("bert")
    with torch.no_grad():
        encoder.backbone.get_input_embeddings().weight[encoder.tokenize(["w9"])[0][1]] = float("nan")
    texts = ["w1", "w1", "w2", "w9 w2", "w1 w9"]
    with pytest.raises(ModelError, match="2 vectors are not finite, first: text 3, 'w9 w2'"):
        embed_texts(encoder, texts)
    with pytest.raises(ModelError, match="first: text 3"):
        embed_views(encoder, texts, 0)


def test_batches_hold_every_text_once_longest_first_within_the_budget():
    lengths = np.random.default_rng(0).integers(1, 200, size=500).tolist()
    batches = list(length_batches(lengths, 4))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    longest = [lengths[b[0]] for b in batches]
    assert longest == sorted(longest, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= 4 * 32
    assert len(batches[-1]) > 4 > len(batches[0])
    assert list(length_batches([], 4)) == []


def test_an_embedder_is_a_function_of_texts(tiny):
    encoder = tiny("bert")
    np.testing.assert_array_equal(
        Embedder(encoder, 2, "fp32")(TEXTS), embed_texts(encoder, TEXTS, batch_size=2, precision="fp32")
    )


def test_precision_names():
    cpu = torch.device("cpu")
    assert autocast_dtype("fp32", cpu) is None
    assert autocast_dtype("bf16", cpu) is torch.bfloat16
    assert autocast_dtype("fp16", torch.device("cuda")) is torch.float16
    assert autocast_dtype("auto", torch.device("meta")) is None
    with pytest.raises(ConfigError, match="fp16 on cpu"):
        autocast_dtype("fp16", cpu)
    with pytest.raises(ConfigError, match="int4"):
        autocast_dtype("int4", cpu)
