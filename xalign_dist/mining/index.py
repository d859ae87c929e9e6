"""FAISS behind one small class: build, save, load, search. The only file that imports faiss."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from xalign_dist.errors import ConfigError, DataError, DependencyError, OutputError
from xalign_dist.mining.knn import MISSING, MISSING_SCORE, Neighbours, check_vectors, merge_topk
from xalign_dist.mining.plan import (
    FIRST_EFFORT,
    HNSW_EF_BUILD,
    HNSW_LINKS,
    IVF_TRAINING,
    KMEANS_ROUNDS,
    PQ_LEAST_ROWS,
    PQ_TRAINING,
    breadth,
    code_bytes,
    ivf_lists,
    probes,
    shortlist,
)
from xalign_dist.records import Float32, Int64

RERANK_BYTES = 64 << 20
SEED = 1234

GPU_MOST = 2048
"""Neighbours, and inverted lists looked into, that a search on a GPU may ask for."""

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


def gpus() -> int:
    """GPUs that faiss sees in this process; its CPU build sees none."""
    return int(_faiss().get_num_gpus())


def set_threads(count: int) -> None:
    """Threads that faiss uses in this process."""
    _faiss().omp_set_num_threads(count)


class VectorIndex:
    """One shard of unit vectors, searched by inner product.

    Attributes:
        kind: flat, ivf, hnsw or ivfpq.
        rows: vectors in it.
        dim: D.
    """

    def __init__(self, index: Any, kind: str, vectors_ND: Float32 | None = None) -> None:
        self._index, self._vectors = index, vectors_ND
        self._gpu: Any = None
        self._lists = int(getattr(index, "nlist", 0))
        self.kind = kind
        self.rows = int(index.ntotal)
        self.dim = int(index.d)

    def search(self, query_ND: Float32, k: int, effort: int = FIRST_EFFORT) -> Neighbours:
        """The ``k`` nearest rows of each query.

        Args:
            query_ND: unit vectors.
            k: neighbours.
            effort: how far an approximate index looks; each step doubles it. flat looks at everything.

        Returns:
            Scores and rows ``[N, k]``, ordered by (score descending, row ascending). Where the
            shard has no such neighbour the row is :data:`MISSING`; whether a neighbour exists
            is told by the row only, never by the score. Scores are exact inner products.

        Raises:
            DataError: k below 1, other dimensions than the index, or vectors that are not unit.
        """
        if k < 1:
            raise DataError(f"{k} neighbours asked for", "set neighbours to at least 1")
        query = check_vectors(query_ND, "query", self.dim)
        if len(query) == 0:
            return np.zeros((0, k), np.float32), np.zeros((0, k), np.int64)
        wanted = min(shortlist(effort, k) if self.kind == "ivfpq" else k + TIE_SLACK, self.rows)
        if self._gpu is not None and max(wanted, probes(effort)) > GPU_MOST:
            self._index, self._gpu = _faiss().index_gpu_to_cpu(self._index), None
        found, ids = self._index.search(query, wanted, params=self._looking(effort, k))
        if self.kind == "ivfpq":
            found = self._exact(query, ids)
        scores = np.where(ids == MISSING, MISSING_SCORE, found)
        return merge_topk([(scores, ids.astype(np.int64))], k)

    def to_gpu(self) -> bool:
        """Move the index to the first GPU that this process sees; whether that was possible.

        It stays where it is without a GPU, where the GPU has no room or no such index (hnsw). Scores may
        differ from the CPU's in the last bits of float32.
        """
        if self.kind == "hnsw" or not gpus():
            return False
        room = _faiss().StandardGpuResources()
        try:
            self._index = _faiss().index_cpu_to_gpu(room, 0, self._index)
        except RuntimeError:
            return False
        self._gpu = room  # Its memory is the index's: both end together.
        return True

    def exhausted(self, effort: int, k: int) -> bool:
        """Whether more effort cannot find more."""
        if self.kind == "flat":
            return True
        if self.kind == "hnsw":
            return breadth(effort, k) >= self.rows
        everywhere = probes(effort) >= self._lists
        return everywhere and (self.kind == "ivf" or shortlist(effort, k) >= self.rows)

    def _looking(self, effort: int, k: int) -> Any:
        faiss = _faiss()
        if self.kind == "flat":
            return None
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=min(breadth(effort, k + TIE_SLACK), self.rows))
        kind = faiss.SearchParametersIVF if self.kind == "ivf" else faiss.IVFPQSearchParameters
        return kind(nprobe=min(probes(effort), self._lists))

    def _exact(self, query_BD: Float32, id_BS: Int64) -> Float32:
        """Inner products of queries with the vectors on disk that their codes named, ``[B, S]``."""
        if self._vectors is None:
            raise DataError("an ivfpq index without its vectors", "open it with the vectors it was built of")
        scores = np.empty(id_BS.shape, np.float32)
        step = max(1, RERANK_BYTES // (4 * self.dim * id_BS.shape[1]))
        for at in range(0, len(id_BS), step):
            rows = slice(at, at + step)
            # Each vector is read once, in the order it lies on disk.
            unique, place = np.unique(np.maximum(id_BS[rows], 0), return_inverse=True)
            near_BSD = self._vectors[unique][place.reshape(id_BS[rows].shape)]
            scores[rows] = np.einsum("bd,bsd->bs", query_BD[rows], near_BSD)
        return scores

    def save(self, path: str | Path) -> None:
        """Write the shard to ``path``, beside it first and renamed when whole.

        Raises:
            OutputError: no room, or no leave to write there.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        try:
            _faiss().write_index(self._index, str(aside))
            aside.replace(target)
        except RuntimeError as err:
            reason = str(err).splitlines()[0]
            raise OutputError(
                f"{target}: the shard cannot be written ({reason})", "free disk space"
            ) from None
        finally:
            aside.unlink(missing_ok=True)


class BestColumns:
    """The ``k`` best columns of every row of a matrix that is seen tile by tile.

    The columns of a row must come in ascending order. Memory: 12 bytes a row and column kept.
    """

    def __init__(self, rows: int, k: int) -> None:
        self._heaps = _faiss().ResultHeap(rows, k, keep_max=True)

    def add(self, tile_RC: Float32, row: int, column: int) -> None:
        """Take in a tile (float32, C order) whose first entry is at ``row``, ``column``."""
        rows, columns = tile_RC.shape
        self._heaps.heaps.addn(columns, _faiss().swig_ptr(tile_RC), column, row, rows)

    def take(self) -> Neighbours:
        """Scores, best first, and columns ``[rows, k]``; :data:`MISSING` where there were fewer."""
        self._heaps.finalize()
        return self._heaps.D, self._heaps.I


def build_index(vectors_ND: Float32, kind: str = "flat") -> VectorIndex:
    """Index ``vectors_ND`` (float32 ``[N, D]`` unit vectors) by inner product.

    flat is exact; hnsw, ivf and ivfpq are approximate (Malkov & Yashunin 2018; Jegou et al. 2011).
    ivfpq keeps codes in memory and goes back to ``vectors_ND``, best a file mapped into memory, for
    the exact order of the best candidates. Too few rows to train on are built flat.

    Raises:
        DependencyError: faiss is not installed; names the pip line.
        DataError: no vectors, or vectors that :func:`check_vectors` refuses.
        ConfigError: unknown kind.
    """
    vectors = check_vectors(vectors_ND, "index")
    if len(vectors) == 0:
        raise DataError("an empty side cannot be indexed", "check the corpus after cleaning")
    if kind not in ("flat", "ivf", "hnsw", "ivfpq"):
        raise ConfigError(f"mining.index: {kind!r} cannot be built", "choose flat, ivf, hnsw or ivfpq")
    faiss = _faiss()
    rows, dim = vectors.shape
    lists = ivf_lists(rows)
    if (kind == "ivf" and lists < 2) or (kind == "ivfpq" and rows < PQ_LEAST_ROWS):
        kind = "flat"
    if kind == "flat":
        index = faiss.IndexFlatIP(dim)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_EF_BUILD
    else:
        index = _inverted(faiss, kind, dim, lists)
        _train(index, vectors, lists)
    index.add(vectors)
    return VectorIndex(index, kind, vectors if kind == "ivfpq" else None)


def _inverted(faiss: Any, kind: str, dim: int, lists: int) -> Any:
    coarse = faiss.IndexFlatIP(dim)
    if kind == "ivf":
        index = faiss.IndexIVFFlat(coarse, dim, lists, faiss.METRIC_INNER_PRODUCT)
    else:
        index = faiss.IndexIVFPQ(coarse, dim, lists, code_bytes(dim), 8, faiss.METRIC_INNER_PRODUCT)
        # Codes only choose what is compared exactly; faiss would warn below 39 rows a centroid.
        index.pq.cp.min_points_per_centroid, index.pq.cp.niter = 1, KMEANS_ROUNDS
    index.cp.niter, index.cp.max_points_per_centroid = KMEANS_ROUNDS, IVF_TRAINING
    index.cp.min_points_per_centroid = 1
    return index


def _train(index: Any, vectors_ND: Float32, lists: int) -> None:
    wanted = max(IVF_TRAINING * lists, PQ_TRAINING)
    if len(vectors_ND) > wanted:
        rng = np.random.default_rng(SEED)
        vectors_ND = vectors_ND[np.sort(rng.choice(len(vectors_ND), wanted, replace=False))]
    index.train(np.ascontiguousarray(vectors_ND))


def load_index(path: str | Path, vectors_ND: Float32 | None = None) -> VectorIndex:
    """Open a shard that :meth:`VectorIndex.save` wrote.

    Args:
        path: of the file.
        vectors_ND: the vectors it was built of; ivfpq needs them.

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
    kinds = {
        "IndexFlatIP": "flat", "IndexFlat": "flat", "IndexIVFFlat": "ivf", "IndexHNSWFlat": "hnsw",
        "IndexIVFPQ": "ivfpq",
    }  # fmt: skip
    name = type(index).__name__
    if name not in kinds:
        raise DataError(f"{path}: an index of type {name}", "build it with xalign")
    return VectorIndex(index, kinds[name], vectors_ND)
