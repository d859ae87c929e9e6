"""FAISS shards, merged, against the plain numpy twin: the same neighbours, ties and uneven tails included."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.mining import MISSING, build_index, exact_knn, merge_topk


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
    true_scores, true_ids = exact_knn(query, base, k)
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


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_of_the_twin_change_nothing(block: int) -> None:
    base, query = unit(200, 2), unit(65, 3)
    left, right = exact_knn(query, base, 5, block), exact_knn(query, base, 5)
    assert (left[1] == right[1]).all()
    np.testing.assert_allclose(left[0], right[0], atol=1e-6)
