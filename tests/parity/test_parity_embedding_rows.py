"""Embedding gradients added by rows against torch's own, over several chunks."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_ranks import run_ranks
from training_world import tiny_job

from xalign_dist.objective.gather import GradientMean
from xalign_dist.training.embedding import RowEmbedding, add_rows_only
from xalign_dist.training.run import load_trainee


def pulled(table: nn.Embedding, chunks: list[Tensor]) -> Tensor:
    """Gradient of ``sum (vector * noise)`` over chunks, each its own backward pass."""
    make = torch.Generator().manual_seed(1)
    for ids in chunks:
        vectors = table(ids)
        (vectors * torch.randn(vectors.shape, generator=make)).sum().backward()
    assert table.weight.grad is not None
    return table.weight.grad


@pytest.mark.parametrize("padding", [None, 0, 3])
def test_rows_are_the_dense_gradient(padding: int | None) -> None:
    stock = nn.Embedding(11, 5, padding_idx=padding)
    rows = RowEmbedding.of(copy.deepcopy(stock))
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (3, 4, 6)))
    expected, found = pulled(stock, list(ids)), pulled(rows, list(ids))
    assert expected.abs().sum() > 0
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert (found[9:] == 0).all()
    assert rows.looked_up_V.nonzero().flatten().tolist() == ids.unique().tolist()


def test_a_second_step_starts_from_zero() -> None:
    table = RowEmbedding.of(nn.Embedding(6, 3))
    ids = torch.tensor([[1, 2, 2]])
    once = pulled(table, [ids]).clone()
    table.weight.grad = None
    torch.testing.assert_close(pulled(table, [ids]), once, rtol=0, atol=0)


def test_the_encoder_gets_the_same_gradient_everywhere(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    stock, rows = (load_trainee(job, torch.device("cpu")).eval() for _ in range(2))
    assert add_rows_only(rows)
    ids, mask = stock.collate([[5, 6, 7, 8], [5, 9]])
    for encoder in (stock, rows):
        encoder(ids, mask).pow(3).sum().backward()
    other = dict(rows.named_parameters())
    for name, p in stock.named_parameters():
        assert p.grad is not None, name
        torch.testing.assert_close(other[name].grad, p.grad, rtol=1e-5, atol=1e-7)


def test_other_embeddings_are_left_alone(tmp_path: Path) -> None:
    encoder = load_trainee(tiny_job(tmp_path), torch.device("cpu"))
    encoder.backbone.get_input_embeddings().max_norm = 1.0
    assert not add_rows_only(encoder)
    assert type(encoder.backbone.get_input_embeddings()) is nn.Embedding


def test_means_over_ranks_of_the_rows_are_those_of_the_whole_table() -> None:
    run_ranks(3, mean_of_tables)


def mean_of_tables(rank: int, world: int) -> None:
    torch.manual_seed(0)
    stock, weight = nn.Embedding(9, 4), nn.Parameter(torch.zeros(3, 2))
    rows = RowEmbedding.of(copy.deepcopy(stock))
    by_row = GradientMean([weight, rows.weight], {rows.weight: rows.looked_up_V})
    whole = GradientMean([stock.weight])
    # Its memory is taken now, not when the first step is done.
    assert (by_row._flat.numel(), whole._flat.numel()) == (9 * 4 + 3 * 2, 9 * 4)
    for step in range(3):
        for table in (stock, rows):
            table.weight.grad = None
            if rank < 2:  # the third rank has no chunk at all
                pulled(table, [torch.tensor([[rank, 3, 4 + rank + step]])])
        weight.grad = torch.full((3, 2), float(rank))
        by_row()
        whole()
        assert stock.weight.grad is not None
        assert stock.weight.grad.count_nonzero() > 0
        torch.testing.assert_close(rows.weight.grad, stock.weight.grad, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(weight.grad, torch.full((3, 2), 1.0), rtol=0, atol=0)
        assert not rows.looked_up_V.any()


def test_frozen_rows_get_no_gradient() -> None:
    table = RowEmbedding.of(nn.Embedding(4, 2))
    table.weight.requires_grad_(False)
    assert not table(torch.tensor([1])).requires_grad
