"""Which index, what it costs in memory and time, and whether it fits: known before it is built."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from xalign_dist.errors import ConfigError, ResourceError

KINDS = ("auto", "flat", "ivf", "hnsw")
FLAT_UP_TO = 200_000
HNSW_LINKS = 32
QUERY_BLOCK = 8192
SHARE_OF_MEMORY = 0.5

# float32 multiply-adds per second and core in faiss's blocked product; on the careful side.
_FLOPS = 2e10
_HNSW_BUILD_SECONDS = 4e-4
_HNSW_QUERY_SECONDS = 1e-4


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What :func:`plan_index` chose.

    Attributes:
        kind: flat, ivf or hnsw.
        bytes: memory of the whole index with one block of queries, over all shards.
        build_seconds: expected on one core.
        search_seconds: expected on one core, for as many queries as rows.
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


def plan_index(
    n: int, d: int, memory_bytes: int | None = None, recall: float = 1.0, kind: str = "auto"
) -> IndexPlan:
    """Choose an index for ``n`` vectors of ``d`` dimensions.

    ``auto`` takes flat (exact) when recall 1 is asked for or ``n`` is at most
    :data:`FLAT_UP_TO`, else hnsw, else ivf when hnsw's links do not fit.

    Args:
        n: vectors to index.
        d: dimensions.
        memory_bytes: memory of all shards together. None: half of this machine's.
        recall: recall@K asked for.
        kind: one of :data:`KINDS`; other than auto is taken as it is.

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
    if kind == "auto":
        kind = _choose(n, d, memory_bytes, recall)
    size = index_bytes(n, d, kind)
    build, search = _seconds(n, d, kind)
    line = (
        f"{kind} index of {n:,} x {d}: {_human(size)} of {_human(memory_bytes)}, about"
        f" {build:,.1f} s to build and {search:,.1f} s to search {n:,} queries on one core"
    )
    if size > memory_bytes:
        raise ResourceError(
            f"{kind} index of {n:,} vectors x {d} dimensions needs {_human(size)}, there are"
            f" {_human(memory_bytes)}",
            "use more or larger nodes, or mine in parts (corpora.mining_group)",
        )
    return IndexPlan(kind, size, build, search, line)


def _choose(n: int, d: int, memory_bytes: int, recall: float) -> str:
    if recall == 1 or n <= FLAT_UP_TO:
        return "flat"
    return "hnsw" if index_bytes(n, d, "hnsw") <= memory_bytes else "ivf"


def index_bytes(n: int, d: int, kind: str) -> int:
    """Memory of an index with one block of queries being searched."""
    vectors = 4 * n * d
    extra = {
        "flat": 0,
        "ivf": 8 * n + 4 * d * ivf_lists(n),
        # Two links a vector on the bottom level, and a fifteenth more above it.
        "hnsw": int(n * (HNSW_LINKS * 2 * 4 * 1.07 + 8)),
    }[kind]
    return vectors + extra + 4 * QUERY_BLOCK * d


def _seconds(n: int, d: int, kind: str) -> tuple[float, float]:
    exhaustive = n * n * d / _FLOPS
    if kind == "flat":
        return 4 * n * d / 2e9, exhaustive
    if kind == "hnsw":
        return n * _HNSW_BUILD_SECONDS, n * _HNSW_QUERY_SECONDS
    lists = ivf_lists(n)
    return 10 * min(n, 256 * lists) * lists * d / _FLOPS + n * lists * d / _FLOPS, exhaustive / 8


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
