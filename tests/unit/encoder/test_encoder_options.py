"""LoRA, gradient checkpointing, attention."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from encoder_world import KINDS, LAYERS, TEXTS

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder import embed_texts
from xalign_dist.encoder.adapt import attention_setting
from xalign_dist.errors import ConfigError, DependencyError, ModelError


def vectors(encoder):
    return embed_texts(encoder, TEXTS, precision="fp32")


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_lora_trains_little_and_starts_as_the_model_itself(tiny, kind):
    plain, lora = tiny(kind), tiny(kind, EncoderConfig(lora_rank=2))
    np.testing.assert_allclose(vectors(lora), vectors(plain), atol=1e-6)
    trained = [name for name, p in lora.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    again = tiny(kind, EncoderConfig(lora_rank=2))
    for one, other in zip(lora.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_lora_without_peft_names_the_pip_line(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(DependencyError, match=r"xalign_dist\[lora\]"):
        tiny("bert", EncoderConfig(lora_rank=2))


@pytest.mark.parametrize("kind", ["bert", "mistral"])
def test_gradient_checkpointing_gives_the_same_gradient(tiny, kind):
    grads, calls = [], []
    for on in (False, True):
        encoder = tiny(kind, EncoderConfig(gradient_checkpointing=on)).train()
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        runs = []
        layer = next(m for m in encoder.modules() if isinstance(m, torch.nn.ModuleList))[0]
        inner = next(m for m in layer.modules() if isinstance(m, torch.nn.Linear))
        inner.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        encoder(*encoder.collate(encoder.tokenize(TEXTS)))[:, 0].sum().backward()
        calls.append(len(runs))
        grads.append({n: p.grad for n, p in encoder.named_parameters() if p.grad is not None})
    assert calls == [1, 2]
    assert grads[0].keys() == grads[1].keys()
    for name, value in grads[0].items():
        torch.testing.assert_close(grads[1][name], value)


@pytest.mark.parametrize(("kind", "target"), [("bert", "query"), ("qwen3", "q_proj")])
def test_lora_reaches_the_layers_that_are_named(tiny, kind, target):
    encoder = tiny(kind, EncoderConfig(lora_rank=2, lora_targets=[target], lora_alpha=3.0, lora_dropout=0.1))
    trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * LAYERS
    assert all(f".{target}.lora_" in name for name in trained)
    module = next(m for m in encoder.modules() if hasattr(m, "lora_A"))
    assert (module.scaling["default"], module.lora_dropout["default"].p) == (1.5, 0.1)
    assert (
        len([n for n, p in tiny(kind, EncoderConfig(lora_rank=2)).named_parameters() if p.requires_grad]) > 9
    )


def test_lora_targets_that_are_not_there_are_named_with_those_that_are(tiny):
    with pytest.raises(ModelError, match=r"(?s)no linear layer q_proj.*choose from dense, key, query, value"):
        tiny("bert", EncoderConfig(lora_rank=2, lora_targets=["q_proj", "query"]))


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_what_the_setting_says_and_changes_no_vector(tiny, kind):
    encoders = {how: tiny(kind, EncoderConfig(attention=how)) for how in ("auto", "sdpa", "eager")}
    used = {how: encoder.backbone.config._attn_implementation for how, encoder in encoders.items()}
    assert used == {"auto": "sdpa", "sdpa": "sdpa", "eager": "eager"}
    np.testing.assert_allclose(vectors(encoders["eager"]), vectors(encoders["sdpa"]), atol=1e-5)


def test_flash_attention_without_a_gpu_or_its_package_is_refused(tiny, monkeypatch):
    with pytest.raises(
        ConfigError, match=r"(?s)flash needs a GPU, but the encoder is on cpu.*attention=auto"
    ):
        tiny("bert", EncoderConfig(attention="flash"))
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(DependencyError, match=r"(?s)package flash_attn.*pip install flash-attn"):
        attention_setting(EncoderConfig(attention="flash"), torch.device("cuda"))
