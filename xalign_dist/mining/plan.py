"""Which index, what it costs in memory and time, and whether it fits: known before it is built."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xalign_dist.errors import ConfigError, ResourceError
from xalign_dist.mining.knn import QUERY_BLOCK

KINDS = ("auto", "flat", "ivf", "hnsw", "ivfpq")
FLAT_UP_TO = 200_000
HNSW_LINKS = 32
SHARE_OF_MEMORY = 0.5

IVF_TRAINING = 64
"""Rows a list that its centroids are learned from."""
PQ_LEAST_ROWS = 2048
PQ_DIMENSIONS = 8
"""Dimensions that share one byte of an IVF-PQ code."""
PQ_CENTROIDS = 256
PQ_TRAINING = 8_192
KMEANS_ROUNDS = 10
HNSW_EF_BUILD = 200
_GEMM = 40
"""Multiply-adds of a matrix product in the time of one in the short rows of a codebook."""
TYPICAL_K = 16
FIRST_EFFORT = 2
"""Effort of a search that no one asked a recall of; see :func:`probes`."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds per unit of :func:`work`, of one shard, to build and to search."""

    build: float
    search: float


ASSUMED = {
    "flat": Speed(5e-10, 5e-11),
    "hnsw": Speed(3e-7, 2e-7),
    "ivf": Speed(1e-10, 1e-10),
    "ivfpq": Speed(1.5e-9, 1e-9),
}
"""One core without a measurement; on the careful side."""

Measure = Callable[[str, int], Speed]


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What :func:`plan_index` chose.

    Attributes:
        kind: flat, ivf, hnsw or ivfpq.
        bytes: memory of the whole index with one block of queries, over all shards.
        build_seconds: expected, the shards at work side by side.
        search_seconds: expected, for all queries.
        line: one sentence for the console.
    """

    kind: str
    bytes: int
    build_seconds: float
    search_seconds: float
    line: str


def ivf_lists(rows: int) -> int:
    """Inverted lists for ``rows`` vectors: 4 sqrt(rows), but at least 39 rows a list (faiss's advice)."""
    return max(1, min(int(4 * math.sqrt(rows)), rows // 39))


def probes(effort: int) -> int:
    """Inverted lists that are looked into: 4, doubled with each step of effort."""
    return 4 << effort


def breadth(effort: int, k: int) -> int:
    """efSearch of HNSW: at least k, and 32 doubled with each step of effort."""
    return max(k, 32 << effort)


def shortlist(effort: int, k: int) -> int:
    """Candidates by code that IVF-PQ compares again exactly: 4 k, doubled with each step of effort."""
    return k * (4 << effort)


def code_bytes(d: int) -> int:
    """Bytes of an IVF-PQ code: the largest divisor of ``d`` that leaves 8 dimensions a byte or more."""
    return next(m for m in range(max(1, d // PQ_DIMENSIONS), 0, -1) if d % m == 0)


def plan_index(
    n: int,
    d: int,
    memory_bytes: int | None = None,
    recall: float = 1.0,
    kind: str = "auto",
    *,
    queries: int | None = None,
    shards: int = 1,
    measure: Measure | None = None,
) -> IndexPlan:
    """Choose an index for ``n`` vectors of ``d`` dimensions.

    ``auto`` takes flat (exact) when recall 1 is asked for or ``n`` is at most
    :data:`FLAT_UP_TO`, else hnsw, else ivf when hnsw's links do not fit, else ivfpq when the
    vectors themselves do not.

    Args:
        n: vectors to index.
        d: dimensions.
        memory_bytes: memory of all shards together. None: half of this machine's.
        recall: recall@K asked for.
        kind: one of :data:`KINDS`; other than auto is taken as it is.
        queries: to be searched. None: as many as rows.
        shards: that the rows are spread over; they work side by side.
        measure: measures the :class:`Speed` of a kind at ``d`` dimensions. None: :data:`ASSUMED`.

    Raises:
        ConfigError: unknown kind, or recall outside (0, 1].
        ResourceError: it cannot fit, with the numbers.
    """
    if kind not in KINDS:
        raise ConfigError(f"mining.index: {kind!r} is unknown", f"choose one of {', '.join(KINDS)}")
    if not 0 < recall <= 1:
        raise ConfigError(f"mining.recall: {recall} is no share", "set it above 0 and at most 1")
    if memory_bytes is None:
        memory_bytes = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * SHARE_OF_MEMORY)
    queries = n if queries is None else queries
    if kind == "auto":
        kind = _choose(n, d, memory_bytes, recall, shards)
    size = index_bytes(n, d, kind, shards)
    if size > memory_bytes:
        raise ResourceError(
            f"{kind} index of {n:,} vectors x {d} dimensions needs {human(size)}, there are"
            f" {human(memory_bytes)}",
            _smaller(n, d, memory_bytes, recall, shards),
        )
    speed = ASSUMED[kind] if measure is None else measure(kind, d)
    build, search = work(kind, -(-n // shards), queries, d)
    seconds = build * speed.build, search * speed.search
    line = (
        f"{kind} index of {n:,} x {d} on {shards} shard{'s' if shards > 1 else ''}: {human(size)} of"
        f" {human(memory_bytes)}, about {seconds[0]:,.1f} s to build and {seconds[1]:,.1f} s to search"
        f" {queries:,} queries"
    )
    return IndexPlan(kind, size, *seconds, line)


def takes_flat(n: int, recall: float, kind: str) -> bool:
    """Whether :func:`plan_index` would take the exact index for ``n`` vectors, or none."""
    return kind == "flat" or (kind == "auto" and (recall == 1 or n <= FLAT_UP_TO))


def _choose(n: int, d: int, memory_bytes: int, recall: float, shards: int) -> str:
    if takes_flat(n, recall, "auto"):
        return "flat"
    fits = [k for k in ("hnsw", "ivf", "ivfpq") if index_bytes(n, d, k, shards) <= memory_bytes]
    return fits[0] if fits else "ivfpq"


def _smaller(n: int, d: int, memory_bytes: int, recall: float, shards: int) -> str:
    least = index_bytes(n, d, "ivfpq", shards)
    if least <= memory_bytes:
        way = "set mining.recall below 1 (0.95)" if recall == 1 else "set mining.index to auto"
        return f"{way}: ivfpq needs {human(least)}; or use more or larger nodes"
    return "use more or larger nodes, or mine in parts (corpora.mining_group)"


def index_bytes(n: int, d: int, kind: str, shards: int = 1) -> int:
    """Memory of an index with one block of queries being searched, over all shards.

    The vectors that IVF-PQ compares exactly stay on disk.
    """
    rows = -(-n // shards)
    lists, vectors = ivf_lists(rows), 4 * rows * d
    one = {
        "flat": vectors,
        "ivf": vectors + 8 * rows + 4 * d * lists * (1 + IVF_TRAINING),
        # Two links a vector on the bottom level, and a fifteenth more above it.
        "hnsw": vectors + int(rows * (HNSW_LINKS * 2 * 4 * 1.07 + 8)),
        "ivfpq": rows * (code_bytes(d) + 8) + 4 * d * (lists + PQ_CENTROIDS + _training_rows(rows)),
    }[kind]
    return shards * (one + 4 * QUERY_BLOCK * d)


def _training_rows(rows: int) -> int:
    return min(rows, max(IVF_TRAINING * ivf_lists(rows), PQ_TRAINING))


def work(kind: str, rows: int, queries: int, d: int) -> tuple[float, float]:
    """Units of work of one shard to build and to search, in whatever its kind spends most time on.

    flat, ivf: multiply-adds. hnsw: vectors compared, at most efConstruction (efSearch) times the links
    of each. ivfpq: multiply-adds with the codebook to build; codes, and the vectors compared exactly,
    by the byte to search.
    """
    lists = ivf_lists(rows)
    kmeans = KMEANS_ROUNDS * min(rows, IVF_TRAINING * lists) * lists * d
    looked_at = queries * min(lists, probes(FIRST_EFFORT)) * rows / lists
    if kind == "flat":
        return rows * d, queries * rows * d
    if kind == "hnsw":
        reach = min(rows, breadth(FIRST_EFFORT, 1) * HNSW_LINKS)
        return rows * min(rows / 2, HNSW_EF_BUILD * HNSW_LINKS), queries * reach
    if kind == "ivf":
        return kmeans + rows * lists * d, queries * lists * d + looked_at * d
    codebook = (rows + KMEANS_ROUNDS * min(rows, PQ_TRAINING)) * PQ_CENTROIDS * d
    exact = queries * shortlist(FIRST_EFFORT, TYPICAL_K) * d
    coarse = queries * lists * d / _GEMM
    return (kmeans + rows * lists * d) / _GEMM + codebook, looked_at * code_bytes(d) + exact + coarse


def describe(plans: Sequence[IndexPlan]) -> str:
    """One line for a whole stage: its largest index, and the time of all its searches."""
    largest = max(plans, key=lambda p: p.bytes)
    if len(plans) == 1:
        return largest.line
    total = sum(p.build_seconds + p.search_seconds for p in plans)
    others = sorted({p.kind for p in plans} - {largest.kind})
    smaller = f" ({', '.join(others)} for smaller ones)" if others else ""
    return f"{largest.line}{smaller}; all {len(plans)} searches about {total:,.1f} s"


def human(size: float) -> str:
    """Bytes for a person, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
