"""How fast an index of some kind is on this machine: a small one is built and searched."""

from __future__ import annotations

import time

import numpy as np

from xalign_dist.mining.index import build_index
from xalign_dist.mining.plan import Speed, work
from xalign_dist.records import Float32

SAMPLE_ROWS = {"flat": 16_384, "ivf": 10_000, "hnsw": 3_000, "ivfpq": 2_048}
SAMPLE_QUERIES = 512
NEIGHBOURS = 16


def measure_speed(kind: str, dim: int) -> Speed:
    """Seconds per unit of work of ``kind`` with the threads that faiss has here; takes about a second."""
    rng = np.random.default_rng(0)
    base, query = random_units(rng, SAMPLE_ROWS[kind], dim), random_units(rng, SAMPLE_QUERIES, dim)
    start = time.perf_counter()
    index = build_index(base, kind)
    built = time.perf_counter()
    # The first search pays for threads and pages.
    index.search(query[:32], NEIGHBOURS)
    searching = time.perf_counter()
    index.search(query, NEIGHBOURS)
    end = time.perf_counter()
    build, search = work(kind, len(base), len(query), dim)
    return Speed((built - start) / build, (end - searching) / search)


def random_units(rng: np.random.Generator, rows: int, dim: int) -> Float32:
    """Unit vectors ``[rows, dim]`` of no meaning, to measure with."""
    vectors = rng.standard_normal((rows, dim), np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
