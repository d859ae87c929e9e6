"""The fast path to vectors against its slow twin: one text at a time, float32, unsorted."""

import numpy as np
import pytest
import torch
from encoder_world import KINDS, write_tiny

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder import embed_texts, embed_views, load_encoder, trim_vocabulary

RNG = np.random.default_rng(0)
TEXTS = [" ".join(f"w{i}" for i in RNG.integers(0, 60, size=n)) for n in RNG.integers(0, 40, size=70)]
TEXTS += TEXTS[:5]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def one_by_one(encoder, texts, view_layer):
    main, view = [], []
    with torch.inference_mode():
        for text in texts:
            ids = encoder.tokenizer(text, truncation=True, max_length=encoder.max_tokens)["input_ids"]
            ids_1T = torch.tensor([ids or [encoder.tokenizer.eos_token_id]])
            out = encoder.backbone(input_ids=ids_1T, output_hidden_states=True)
            for rows, states_1TH in ((main, out.last_hidden_state), (view, out.hidden_states[view_layer])):
                pooled = states_1TH[0, -1] if encoder.pooling == "last" else states_1TH[0].mean(0)
                if rows is main and encoder.head is not None:
                    pooled = encoder.head(pooled)
                rows.append((pooled / pooled.norm()).numpy())
    return np.stack(main), np.stack(view)


@pytest.mark.parametrize("kind", KINDS)
def test_fast_vectors_are_the_slow_ones(kind, tmp_path):
    config = EncoderConfig(projection="mlp", projection_dim=6, max_tokens=24)
    encoder = load_encoder(str(write_tiny(tmp_path, kind)), config, "cpu")
    main, view = one_by_one(encoder, TEXTS, -2)
    fast, fast_view = embed_views(encoder, TEXTS, -2, batch_size=3, precision="fp32")
    np.testing.assert_allclose(fast, main, atol=2e-6)
    np.testing.assert_allclose(fast_view, view, atol=2e-6)
    trim_vocabulary(encoder, TEXTS)
    np.testing.assert_allclose(embed_texts(encoder, TEXTS, precision="fp32"), main, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_stays_near(kind, tmp_path):
    encoder = load_encoder(str(write_tiny(tmp_path, kind)), None, "cpu")
    full, half = (embed_texts(encoder, TEXTS, precision=p) for p in ("fp32", "bf16"))
    assert (full * half).sum(1).min() > 0.98
    assert np.abs(full - half).max() > 1e-6
