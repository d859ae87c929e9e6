"""Indices on a GPU. There is none here: faiss's three GPU calls are stood in for by copies on the CPU.

What is tested is when an index is moved, when it stays, and when it comes back; not the GPU's own results.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from xalign_dist.mining import build_index, exact_knn
from xalign_dist.mining import index as module


class FakeGpu:
    """faiss with one GPU that refuses what does not fit and searches for more than it can."""

    def __init__(self, room: int = 1 << 30, count: int = 1) -> None:
        self.room, self.count, self.moved, self.back = room, count, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(faiss, name)

    def get_num_gpus(self) -> int:
        return self.count

    StandardGpuResources = SimpleNamespace

    def index_cpu_to_gpu(self, room: Any, device: int, index: Any) -> Any:
        assert device == 0
        if index.ntotal * index.d * 4 > self.room:
            raise RuntimeError("Error in cudaMalloc: out of memory")
        self.moved += 1
        return _Limited(faiss.clone_index(index))

    def index_gpu_to_cpu(self, index: Any) -> Any:
        self.back += 1
        return index.inner


class _Limited:
    """An index that, like those of a GPU, has a limit and no ``nlist``."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def search(self, query: Any, k: int, params: Any = None) -> Any:
        if k > module.GPU_MOST or getattr(params, "nprobe", 0) > module.GPU_MOST:
            raise RuntimeError("k or nprobe is over the limit of a GPU")
        return self.inner.search(query, k, params=params)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    monkeypatch.setattr(module, "_faiss", lambda: fake)
    return fake


def unit(rows: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, 16))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("kind", ["flat", "ivf", "ivfpq"])
def test_an_index_is_moved_and_finds_the_same(gpu: FakeGpu, kind: str) -> None:
    base, query = unit(3000, 1), unit(40, 2)
    here, there = (build_index(base, kind) for _ in range(2))
    assert there.to_gpu()
    assert gpu.moved == 1
    for effort in (0, 3):
        for one, other in zip(here.search(query, 5, effort), there.search(query, 5, effort), strict=True):
            np.testing.assert_array_equal(one, other)
    assert there.exhausted(9, 5) == here.exhausted(9, 5)
    assert gpu.back == 0


def test_hnsw_stays_and_so_does_what_has_no_room(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    base = unit(500, 3)
    assert not build_index(base, "hnsw").to_gpu()
    gpu.room = 1000
    flat = build_index(base, "flat")
    assert not flat.to_gpu()
    assert gpu.moved == 0
    np.testing.assert_array_equal(flat.search(base[:4], 3)[1], exact_knn(base[:4], base, 3)[1])
    gpu.count, gpu.room = 0, 1 << 30
    assert not build_index(base, "flat").to_gpu()


def test_a_search_beyond_the_gpus_limit_goes_on_on_the_cpu(gpu: FakeGpu) -> None:
    base, query = unit(4000, 4), unit(3, 5)
    index = build_index(base, "flat")
    assert index.to_gpu()
    _, rows = index.search(query, 3000)
    assert gpu.back == 1
    np.testing.assert_array_equal(rows, exact_knn(query, base, 3000)[1])


def test_without_a_gpu_nothing_is_asked_of_one() -> None:
    assert module.gpus() == faiss.get_num_gpus()
    if not faiss.get_num_gpus():
        assert not build_index(unit(50, 6), "flat").to_gpu()
