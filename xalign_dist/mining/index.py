"""FAISS behind one small class: build, save, load, search. The only file that imports faiss."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from xalign_dist.errors import ConfigError, DataError, DependencyError
from xalign_dist.mining.knn import MISSING, MISSING_SCORE, Neighbours, check_vectors, merge_topk
from xalign_dist.mining.plan import HNSW_LINKS, ivf_lists
from xalign_dist.records import Float32

HNSW_EF_BUILD = 200
HNSW_EF_SEARCH = 128
IVF_PROBE_SHARE = 0.125
IVF_MIN_PROBES = 8

# Extra flat neighbours fetched so that a tie at the k-th place is cut by row and not by chance.
TIE_SLACK = 8


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as err:
        raise DependencyError(
            f"faiss, which searches neighbours, cannot be imported ({err})",
            "pip install 'xalign_dist[cpu]', or 'xalign_dist[gpu]' on a machine with an NVIDIA GPU",
        ) from None
    return faiss


class VectorIndex:
    """One shard of unit vectors, searched by inner product.

    Attributes:
        kind: flat, ivf or hnsw.
        rows: vectors in it.
        dim: D.
    """

    def __init__(self, index: Any, kind: str) -> None:
        self._index = index
        self.kind = kind
        self.rows = int(index.ntotal)
        self.dim = int(index.d)

    def search(self, query_ND: Float32, k: int) -> Neighbours:
        """The ``k`` nearest rows of each query.

        Returns:
            Scores and rows ``[N, k]``, ordered by (score descending, row ascending). Where the
            shard has no such neighbour the row is :data:`MISSING`; whether a neighbour exists
            is told by the row only, never by the score.

        Raises:
            DataError: k below 1, other dimensions than the index, or vectors that are not unit.
        """
        if k < 1:
            raise DataError(f"{k} neighbours asked for", "set neighbours to at least 1")
        query = check_vectors(query_ND, "query", self.dim)
        if len(query) == 0:
            return np.zeros((0, k), np.float32), np.zeros((0, k), np.int64)
        scores, ids = self._index.search(query, min(k + TIE_SLACK, self.rows))
        scores = np.where(ids == MISSING, MISSING_SCORE, scores)
        return merge_topk([(scores, ids.astype(np.int64))], k)

    def save(self, path: str | Path) -> None:
        """Write the shard to ``path``, beside it first and renamed when whole."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        try:
            _faiss().write_index(self._index, str(aside))
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)


def build_index(vectors_ND: Float32, kind: str = "flat") -> VectorIndex:
    """Index ``vectors_ND`` (float32 ``[N, D]`` unit vectors) by inner product.

    flat is exact; hnsw and ivf are approximate (Malkov & Yashunin 2018; Jegou et al. 2011).
    An ivf of too few rows to train its lists is built flat.

    Raises:
        DependencyError: faiss is not installed; names the pip line.
        DataError: no vectors, or vectors that :func:`check_vectors` refuses.
        ConfigError: unknown kind.
    """
    vectors = check_vectors(vectors_ND, "index")
    if len(vectors) == 0:
        raise DataError("an empty side cannot be indexed", "check the corpus after cleaning")
    faiss = _faiss()
    rows, dim = vectors.shape
    lists = ivf_lists(rows)
    if kind == "flat" or (kind == "ivf" and lists < 2):
        kind, index = "flat", faiss.IndexFlatIP(dim)
    elif kind == "ivf":
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = min(lists, max(IVF_MIN_PROBES, int(lists * IVF_PROBE_SHARE)))
        index.train(vectors)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_EF_BUILD
        index.hnsw.efSearch = HNSW_EF_SEARCH
    else:
        raise ConfigError(f"mining.index: {kind!r} cannot be built", "choose flat, ivf or hnsw")
    index.add(vectors)
    return VectorIndex(index, kind)


def load_index(path: str | Path) -> VectorIndex:
    """Open a shard that :meth:`VectorIndex.save` wrote.

    Raises:
        DataError: missing or damaged file, or an index of another kind.
    """
    faiss = _faiss()
    if not Path(path).is_file():
        raise DataError(f"{path}: no such index shard", "delete the folder and build the index again")
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as err:
        raise DataError(f"{path}: damaged index shard ({err})", "delete it and build it again") from None
    kinds = {"IndexFlatIP": "flat", "IndexFlat": "flat", "IndexIVFFlat": "ivf", "IndexHNSWFlat": "hnsw"}
    name = type(index).__name__
    if name not in kinds:
        raise DataError(f"{path}: an index of type {name}", "build it with xalign")
    return VectorIndex(index, kinds[name])
