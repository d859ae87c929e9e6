"""Quick dropout against torch's own: the same distribution, scale, gradient and replay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_world import tiny_job

from xalign_dist.training.dropout import QuickDropout, attend, drop, quicken_dropout
from xalign_dist.training.run import load_trainee

P = 0.1
DRAWS = 400_001  # not a multiple of four


@pytest.mark.parametrize("p", [0.02, P, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_and_scale_are_those_of_dropout(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    out = drop(torch.ones(DRAWS, dtype=dtype), p)
    # Five standard deviations of a binomial share.
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / DRAWS) ** 0.5)
    peer = F.dropout(torch.ones(1000, dtype=dtype), p)
    torch.testing.assert_close(out[out != 0].unique(), peer[peer != 0].unique(), rtol=2e-4, atol=0)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    gone = (drop(torch.ones(DRAWS), P) == 0).double()
    for step in range(1, 9):
        together = float((gone[step:] * gone[:-step]).mean())
        assert together == pytest.approx(P * P, abs=5 * (P * P * (1 - P * P) / DRAWS) ** 0.5)


def test_the_gradient_is_the_mask_and_the_seed_replays_it() -> None:
    torch.manual_seed(7)
    x = torch.randn(33, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(33, 7, dtype=torch.float64)
    torch.manual_seed(3)
    one = drop(x, P)
    torch.manual_seed(3)
    assert torch.equal(one, drop(x, P))
    assert not torch.equal(one, drop(x, P))
    (one * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight * (one / x).detach())


@pytest.mark.parametrize("kind", ["none", "bool", "added"])
def test_attention_is_that_of_sdpa(kind: str) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 2, 5, 8, dtype=torch.float64) for _ in range(3))
    seen = torch.ones(3, 1, 5, 5, dtype=torch.bool)
    seen[1, :, :, 3:] = False
    added = torch.zeros(3, 1, 5, 5, dtype=torch.float64).masked_fill(~seen, -1e9)
    mask = {"none": None, "bool": seen, "added": added}[kind]
    peer = F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2)

    layer = nn.Module()
    layer.is_causal = False

    def ours(dropout: float, module: nn.Module = layer) -> torch.Tensor:
        return attend(module, query, key, value, mask, dropout, 8**-0.5)[0]

    # So small a probability drops nothing, and takes the quick path all the same.
    torch.testing.assert_close(ours(1e-9), peer)
    torch.testing.assert_close(ours(0.0), peer)
    if kind == "none":  # a layer that says nothing looks back only, as for transformers
        back = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)
        torch.testing.assert_close(ours(1e-9, nn.Module()), back)
    # On average over masks, dropout changes nothing.
    many = torch.stack([ours(P) for _ in range(4000)])
    error = many.std(0) / len(many) ** 0.5
    assert ((many.mean(0) - peer).abs() <= 5 * error + 1e-12).all()


def test_an_encoder_embeds_as_before_and_replays_its_dropout(tmp_path: Path) -> None:
    encoder = load_trainee(tiny_job(tmp_path), torch.device("cpu")).eval()
    ids, mask = encoder.collate([[5, 6, 7, 8], [5, 9]])
    before = encoder(ids, mask)
    stock = [m for m in encoder.modules() if type(m) is nn.Dropout]
    assert quicken_dropout(encoder) == len(stock) > 0
    assert all(type(m) is QuickDropout for m in stock)
    torch.testing.assert_close(encoder(ids, mask), before, rtol=0, atol=0)
    encoder.train()
    torch.manual_seed(1)
    one = encoder(ids, mask)
    torch.manual_seed(1)
    assert torch.equal(one, encoder(ids, mask))
    assert not torch.allclose(one, encoder(ids, mask))


def test_no_stock_dropout_is_left_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_trainee(tiny_job(tmp_path), torch.device("cpu")).train()
    quicken_dropout(encoder)

    def stock(*_: object, **__: object) -> None:
        raise AssertionError("torch's own dropout was called")

    monkeypatch.setattr(F, "dropout", stock)
    monkeypatch.setattr(F, "scaled_dot_product_attention", stock)
    encoder(*encoder.collate([[5, 6, 7, 8], [5, 9]]))
