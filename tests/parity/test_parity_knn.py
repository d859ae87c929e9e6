"""FAISS shards, merged, against the plain numpy twin: the same neighbours, ties and uneven tails included."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.mining import MISSING, Neighbours, build_index, exact_knn, local, merge_topk
from xalign_dist.mining.knn import block_bounds


def unit(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, 32)) + 0.5
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("shards", [1, 2, 4, 7])
@pytest.mark.parametrize(("rows", "k"), [(503, 16), (503, 1), (9, 16)])
def test_sharded_flat_search_is_the_twin(shards: int, rows: int, k: int) -> None:
    base, query = unit(rows, 0), unit(61, 1)
    base[rows // 2 :: 5] = base[0]
    edges = np.linspace(0, rows, shards + 1).astype(int)
    parts = []
    for shard in np.random.default_rng(shards).permutation(shards):
        start, stop = edges[shard], edges[shard + 1]
        scores, ids = build_index(base[start:stop], "flat").search(query, k)
        parts.append((scores, np.where(ids == MISSING, MISSING, ids + start)))
    scores, ids = merge_topk(parts, k)
    is_the_twin((scores, ids), query, base, k)


def is_the_twin(found: Neighbours, query: np.ndarray, base: np.ndarray, k: int) -> None:
    (scores, ids), (true_scores, true_ids) = found, exact_knn(query, base, k)
    there = true_ids != MISSING
    assert (there == (ids != MISSING)).all()
    np.testing.assert_allclose(scores[there], true_scores[there], atol=1e-6)
    # Where the twin's scores differ by more than rounding, the rows are the same too.
    apart = np.ones_like(there)
    close = np.abs(np.diff(np.where(there, true_scores, -9), axis=1)) < 1e-6
    apart[:, 1:] &= ~close
    apart[:, :-1] &= ~close
    apart[:, -1] = False
    assert (ids[apart] == true_ids[apart]).all()


@pytest.mark.parametrize(("rows", "columns", "block"), [(1024, 1040, 8192), (64, 40, 100), (7, 11, 61)])
@pytest.mark.parametrize(("right", "k"), [(503, 16), (503, 1), (9, 16), (1, 2)])
def test_one_product_for_both_directions_is_the_twin(
    rows: int, columns: int, block: int, right: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "ROWS", rows)
    monkeypatch.setattr(local, "COLUMNS", columns)
    base, query, forward = unit(right, 0), unit(261, 1), []
    base[right // 2 :: 5] = base[0]
    bounds = block_bounds(len(query), block)
    backward = local.LocalSearch().both_ways(
        query, base, k, bounds, lambda b, found: forward.append((b, found))
    )
    assert [b for b, _ in forward] == bounds
    ours = np.concatenate([f[0] for _, f in forward]), np.concatenate([f[1] for _, f in forward])
    is_the_twin(ours, query, base, k)
    is_the_twin(backward, base, query, k)
    one_way = [found for _, found in local.LocalSearch().blocks(query, base, k, bounds)]
    is_the_twin(
        (np.concatenate([f[0] for f in one_way]), np.concatenate([f[1] for f in one_way])), query, base, k
    )


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_of_the_twin_change_nothing(block: int) -> None:
    base, query = unit(200, 2), unit(65, 3)
    left, right = exact_knn(query, base, 5, block), exact_knn(query, base, 5)
    assert (left[1] == right[1]).all()
    np.testing.assert_allclose(left[0], right[0], atol=1e-6)
