"""Neighbours: exactness against plain numpy, missing ones by row, shards on disk, refusals."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xalign_dist.errors import ConfigError, DataError, DependencyError, ResourceError
from xalign_dist.mining import MISSING, build_index, exact_knn, load_index, merge_topk, plan_index
from xalign_dist.mining.calibrate import measure_speed
from xalign_dist.mining.knn import recall_of, streamed_knn, top_k
from xalign_dist.mining.plan import FLAT_UP_TO, Speed, code_bytes, describe, index_bytes, work


def unit(rows: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_exact_knn_is_a_full_sort() -> None:
    query, base = unit(37, seed=1), unit(90, seed=2)
    scores, ids = exact_knn(query, base, 7, block=10)
    full = query @ base.T
    order = np.argsort(-full, axis=1)[:, :7]
    assert (ids == order).all()
    np.testing.assert_allclose(scores, np.take_along_axis(full, order, axis=1), rtol=1e-6)


def test_ties_go_to_the_lower_row_in_twin_and_index() -> None:
    base = np.repeat(unit(4), 6, axis=0)
    query = unit(4)
    expected = [[6 * i, 6 * i + 1, 6 * i + 2] for i in range(4)]
    assert exact_knn(query, base, 3)[1].tolist() == expected
    assert build_index(base, "flat").search(query, 3)[1].tolist() == expected
    assert top_k(np.zeros((2, 9), np.float32), 4)[1].tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_index_finds_what_the_twin_finds(kind: str) -> None:
    query, base = unit(50, seed=3), unit(800, seed=4)
    scores, ids = build_index(base, kind).search(query, 5)
    true_scores, true_ids = exact_knn(query, base, 5)
    recall = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(ids.tolist(), true_ids.tolist(), strict=True)])
    assert recall >= {"flat": 1.0, "ivf": 0.5, "hnsw": 0.95}[kind]
    if kind == "flat":
        np.testing.assert_allclose(scores, true_scores, atol=1e-6)


def clustered(rows: int, seed: int, dim: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(200, dim))
    found = centres[rng.integers(0, 200, rows)] + 0.7 * rng.normal(size=(rows, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "ivfpq"])
def test_effort_buys_recall_up_to_exactness(kind: str) -> None:
    base, query = clustered(4000, 1), clustered(100, 2)
    exact, index = exact_knn(query, base, 8), build_index(base, kind)
    assert index.kind == kind
    recalls, effort = [], 0
    while not index.exhausted(effort, 8):
        recalls.append(recall_of(index.search(query, 8, effort), exact))
        effort += 1
    recalls.append(recall_of(index.search(query, 8, effort), exact))
    assert recalls[-1] >= 0.999
    assert recalls[0] < recalls[-1] or kind == "hnsw"
    assert 4 <= len(recalls) < 12
    scores, ids = index.search(query, 8, 0)
    np.testing.assert_allclose(scores, np.einsum("nd,nkd->nk", query, base[ids]), atol=1e-6)


def test_recall_counts_what_is_as_near_as_the_last() -> None:
    base, query = np.repeat(unit(4), 6, axis=0), unit(4)
    exact = exact_knn(query, base, 3)
    assert recall_of((exact[0], exact[1] + 3), exact) == 1
    assert recall_of((np.where([[True, False, False]], exact[0], -1), exact[1]), exact) == pytest.approx(
        1 / 3
    )
    few = exact_knn(query, base[:2], 3)
    assert recall_of(few, few) == 1


def test_a_base_that_is_streamed_gives_the_same() -> None:
    query, base = unit(20, seed=3), unit(130, seed=4)
    for ours, theirs in zip(streamed_knn(query, base, 7, rows=32), exact_knn(query, base, 7), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_codes_alone_are_refused(tmp_path: Path) -> None:
    base = clustered(2100, 1)
    build_index(base, "ivfpq").save(tmp_path / "0.index")
    with pytest.raises(DataError, match="without its vectors"):
        load_index(tmp_path / "0.index").search(base[:3], 2)
    assert (load_index(tmp_path / "0.index", base).search(base[:3], 1)[1][:, 0] == [0, 1, 2]).all()
    assert build_index(base[:2000], "ivfpq").kind == "flat"


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_missing_neighbours_are_told_by_row(kind: str) -> None:
    scores, ids = build_index(unit(3), kind).search(unit(5, seed=1), 6)
    assert (ids[:, 3:] == MISSING).all()
    assert (ids[:, :3] != MISSING).all()
    assert np.isneginf(scores[:, 3:]).all()
    assert (exact_knn(unit(5, seed=1), unit(3), 6)[1] == ids).all()


@pytest.mark.parametrize("huge", [3.4e38, -3.4e38, np.nan])
def test_merge_masks_by_row_and_never_by_value(huge: float) -> None:
    left = (np.array([[0.2, huge]], np.float32), np.array([[4, MISSING]]))
    right = (np.array([[0.9, 0.1]], np.float32), np.array([[7, 2]]))
    scores, ids = merge_topk([left, right], 4)
    assert ids.tolist() == [[7, 4, 2, MISSING]]
    assert scores[0, :3].tolist() == pytest.approx([0.9, 0.2, 0.1])
    assert np.isneginf(scores[0, 3])
    assert merge_topk([left], 5)[1].tolist() == [[4, MISSING, MISSING, MISSING, MISSING]]
    with pytest.raises(DataError, match="no shard"):
        merge_topk([], 3)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_shard_survives_the_disk(kind: str, tmp_path: Path) -> None:
    index = build_index(unit(500), kind)
    path = tmp_path / "shards" / "0.index"
    index.save(path)
    again = load_index(path)
    assert (again.kind, again.rows, again.dim) == (kind, 500, 16)
    for ours, theirs in zip(index.search(unit(9, seed=5), 4), again.search(unit(9, seed=5), 4), strict=True):
        assert (ours == theirs).all()
    assert [p.name for p in path.parent.iterdir()] == ["0.index"]


def test_a_damaged_or_missing_shard_is_named(tmp_path: Path) -> None:
    path = tmp_path / "1.index"
    with pytest.raises(DataError, match=r"1\.index: no such"):
        load_index(path)
    path.write_bytes(b"not an index")
    with pytest.raises(DataError, match=r"1\.index: damaged"):
        load_index(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 3.0])
def test_vectors_that_are_not_unit_are_refused(bad: float) -> None:
    vectors = unit(6)
    vectors[4] = bad
    for call in (
        lambda: build_index(vectors, "flat"),
        lambda: build_index(unit(6), "flat").search(vectors, 2),
        lambda: exact_knn(unit(6), vectors, 2),
    ):
        with pytest.raises(DataError, match="row 4"):
            call()


def test_wrong_shapes_and_counts_are_refused() -> None:
    index = build_index(unit(6), "flat")
    with pytest.raises(DataError, match="8 dimensions, the other side has 16"):
        index.search(unit(3, dim=8), 2)
    with pytest.raises(DataError, match="neighbours"):
        index.search(unit(3), 0)
    with pytest.raises(DataError, match="empty side"):
        build_index(unit(6)[:0], "flat")
    with pytest.raises(DataError, match="shape"):
        build_index(unit(6)[0], "flat")
    with pytest.raises(ConfigError, match="hsnw"):
        build_index(unit(6), "hsnw")
    assert index.search(unit(6)[:0], 3)[1].shape == (0, 3)
    assert (exact_knn(unit(2), unit(6)[:0], 3)[1] == MISSING).all()


def test_without_faiss_the_error_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "faiss":
            raise ImportError("No module named 'faiss'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DependencyError, match=r"pip install 'xalign_dist\[cpu\]'.*\[gpu\]"):
        build_index(unit(6), "flat")


def test_plan_follows_size_recall_and_memory() -> None:
    much, n = 10**13, 10**7
    assert plan_index(1000, 384, much).kind == "flat"
    assert plan_index(n, 384, much, recall=1.0).kind == "flat"
    assert plan_index(FLAT_UP_TO + 1, 384, much, recall=0.95).kind == "hnsw"
    for kind in ("ivf", "ivfpq"):
        assert plan_index(n, 384, index_bytes(n, 384, kind) + 1, recall=0.95).kind == kind
    assert plan_index(n, 384, much, kind="ivf").kind == "ivf"
    plan = plan_index(1000, 384, queries=500, shards=2)
    assert plan.bytes >= 1000 * 384 * 4
    assert plan.line.startswith("flat index of 1,000 x 384 on 2 shards: ")
    assert "to search 500 queries" in plan.line


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq"])
def test_expected_time_is_the_measured_speed_times_the_work(kind: str) -> None:
    plan = plan_index(
        10**6, 64, 10**13, kind=kind, queries=10**5, shards=4, measure=lambda *_: Speed(2e-9, 3e-9)
    )
    build, search = work(kind, 250_000, 10**5, 64)
    assert (plan.build_seconds, plan.search_seconds) == (
        pytest.approx(2e-9 * build),
        pytest.approx(3e-9 * search),
    )
    twice = work(kind, 250_000, 2 * 10**5, 64)
    assert twice == (build, pytest.approx(2 * search))
    speed = measure_speed(kind, 16)
    assert 0 < speed.build < 1
    assert 0 < speed.search < 1
    assert describe([plan]) == plan.line
    assert "all 2 searches" in describe([plan, plan_index(10, 64)])


def test_what_is_in_memory_is_what_the_plan_counts() -> None:
    base = clustered(3000, 1, dim=64)
    assert code_bytes(384) == 48
    assert code_bytes(100) == 10
    for kind in ("flat", "ivf", "hnsw", "ivfpq"):
        index = build_index(base, kind)
        import faiss

        held = faiss.serialize_index(index._index).nbytes
        query_block = 4 * 8192 * 64
        assert held <= index_bytes(3000, 64, kind) <= 1.5 * held + query_block + 4 * 64 * 3300


def test_a_plan_that_cannot_fit_is_refused_with_the_numbers() -> None:
    numbers = "10,000,000 vectors x 384 dimensions needs 15.4 GB, there are"
    with pytest.raises(
        ResourceError, match=f"(?s)flat index of {numbers} 2 GB.*recall below 1 .*ivfpq needs 1"
    ):
        plan_index(10**7, 384, 2 * 10**9)
    with pytest.raises(ResourceError, match=f"(?s){numbers} 10 MB.*larger nodes"):
        plan_index(10**7, 384, 10**7)
    with pytest.raises(ResourceError, match=r"ivfpq index .* there are 10 MB"):
        plan_index(10**7, 384, 10**7, recall=0.9)
    with pytest.raises(ConfigError, match="recall"):
        plan_index(10, 4, 10**9, recall=0.0)
    with pytest.raises(ConfigError, match="unknown"):
        plan_index(10, 4, 10**9, kind="pq")
