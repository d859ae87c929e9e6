"""LoRA and gradient checkpointing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from encoder_world import TEXTS

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder import embed_texts
from xalign_dist.errors import DependencyError


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
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
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
