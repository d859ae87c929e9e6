"""Search in one process: what it says before it starts, what it refuses, where ties go."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.config import MiningConfig
from xalign_dist.errors import DataError, ResourceError
from xalign_dist.mining import MISSING, Neighbours, merge_topk
from xalign_dist.mining.consistency import rescored
from xalign_dist.mining.index import BestColumns
from xalign_dist.mining.local import MEASURED_FROM, LocalSearch
from xalign_dist.mining.plan import takes_flat


def unit(rows: int, seed: int, dim: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def both(left: np.ndarray, right: np.ndarray, k: int) -> tuple[Neighbours, Neighbours]:
    kept: list[Neighbours] = []
    backward = LocalSearch().both_ways(left, right, k, [(0, len(left))], lambda _, found: kept.append(found))
    return kept[0], backward


def test_a_plan_is_told_and_refused_with_numbers() -> None:
    search = LocalSearch()
    plan = search.plan(800_000, 16, 400_000)
    assert plan.kind == "flat"
    assert plan.line.startswith("flat index of 800,000 x 16 on 1 shard: ")
    assert 0 < plan.search_seconds == pytest.approx(4 * search.plan(200_000, 16, 400_000).search_seconds)
    with pytest.raises(ResourceError, match=r"flat index of 1,000,000,000,000 vectors x 16 .* there are"):
        search.plan(10**12, 16, 1)


def test_a_short_search_is_not_measured_first(monkeypatch: pytest.MonkeyPatch) -> None:
    search = LocalSearch()
    monkeypatch.setattr(search, "both_ways", None)
    assert 0 < search.plan(2_000, 384, 1_000).search_seconds < MEASURED_FROM
    with pytest.raises(TypeError):
        search.plan(2_000_000, 384, 1_000_000)


def test_what_is_no_unit_vector_or_of_another_size_is_refused() -> None:
    zero = unit(5, 1)
    zero[3] = 0
    with pytest.raises(DataError, match="not of unit length"):
        both(unit(5, 2), zero, 3)
    with pytest.raises(DataError, match="8 dimensions, the other side has 16"):
        both(unit(5, 2), unit(5, 2, dim=8), 3)


def test_a_single_sentence_and_copies() -> None:
    forward, backward = both(unit(1, 1), unit(1, 1), 3)
    assert forward[1].tolist() == backward[1].tolist() == [[0, MISSING, MISSING]]
    copies = np.repeat(unit(1, 3), 7, axis=0)
    forward, backward = both(copies[:2], copies, 5)
    assert forward[1].tolist() == [[0, 1, 2, 3, 4]] * 2
    assert backward[1].tolist() == [[0, 1, MISSING, MISSING, MISSING]] * 7


def test_columns_that_do_not_fill_the_list_are_missing() -> None:
    best = BestColumns(2, 3)
    best.add(np.array([[0.5, 0.9]], np.float32), 1, 4)
    _, columns = best.take()
    assert columns.tolist() == [[MISSING] * 3, [5, 4, MISSING]]


def test_merged_ties_go_to_the_lower_row_and_missing_ones_last() -> None:
    nothing = np.float32(3.4e38)
    left = (
        np.array([[0.9, 0.5, 0.5], [0.7, nothing, nothing]], np.float32),
        np.array([[8, 6, 7], [3, -1, -1]]),
    )
    right = np.array([[0.9, 0.5, 0.1], [0.7, 0.7, nothing]], np.float32), np.array([[2, 1, 0], [0, 9, -1]])
    for parts in ([left, right], [right, left]):
        scores, ids = merge_topk(parts, 4)
        assert ids.tolist() == [[2, 8, 1, 6], [0, 3, 9, MISSING]]
        assert scores[0].tolist() == pytest.approx([0.9, 0.9, 0.5, 0.5])


def test_exact_search_is_known_from_the_size() -> None:
    assert takes_flat(10**9, 1.0, "auto")
    assert takes_flat(200_000, 0.9, "auto")
    assert not takes_flat(200_001, 0.9, "auto")
    assert takes_flat(10**9, 0.9, "flat")
    assert not takes_flat(10, 1.0, "hnsw")
    assert MiningConfig().recall == 1


def test_the_second_view_over_many_blocks_is_that_of_each_row() -> None:
    left, right = unit(700, 1), unit(50, 2)
    ids = np.random.default_rng(3).integers(-1, 50, (700, 6))
    scores, same = rescored((np.zeros((700, 6), np.float32), ids), left, right)
    expected = np.where(
        ids == MISSING, -np.inf, np.take_along_axis(left @ right.T, np.maximum(ids, 0), axis=1)
    )
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert same is ids
