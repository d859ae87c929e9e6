"""Embed every distinct text of a corpus once, on a pool of actors, block by block on disk.

Ray Data streams blocks of texts through the pool; each block is one Parquet file, written
aside and renamed, so a killed run embeds only the blocks that are missing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ray.util.annotations import RayDeprecationWarning

from xalign_dist.config import EncoderConfig, RuntimeConfig
from xalign_dist.corpora.tables import write_table
from xalign_dist.encoder import Encoder, embed_texts, embed_views, load_encoder
from xalign_dist.errors import DataError, XalignError
from xalign_dist.records import Float32, text_keys
from xalign_dist.runtime.faults import for_workers, pack_error, unpack_error, users_errors
from xalign_dist.runtime.session import Resources

BLOCK_TEXTS = 2048
Progress = Callable[[int], None]


@dataclass(frozen=True)
class EmbedJob:
    """What embeds: the encoder, its settings, and the layer of the second view (None: no second view)."""

    model: str
    encoder: EncoderConfig
    batch: int = 64
    view_layer: int | None = None

    def fingerprint(self) -> str:
        """Names the folder of the vectors; changes with anything that changes a vector."""
        used = {
            "model": _model_identity(self.model),
            "max_tokens": self.encoder.max_tokens,
            "pooling": self.encoder.pooling,
            "prefix": self.encoder.query_prefix,
            "view": self.view_layer,
        }
        return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:16]


def _model_identity(model: str) -> list[str]:
    """A directory retrained under the same name must not find the old vectors."""
    weights = Path(model) / "model.safetensors"
    if not weights.exists():
        return [model]
    stat = weights.stat()
    return [model, str(stat.st_size), str(stat.st_mtime_ns)]


class VectorStore:
    """Vectors of distinct texts, found by text key.

    Args:
        keys: int64 ``[N]``, sorted ascending.
        main: float32 ``[N, D]`` unit vectors.
        view: float32 ``[N, D]`` of the second view, or None.
        identity: names encoder and texts; equal for equal vectors.
    """

    def __init__(self, keys: np.ndarray, main: Float32, view: Float32 | None, identity: str) -> None:
        self.keys, self.main, self.view, self.identity = keys, main, view, identity

    def rows(self, texts: Sequence[str]) -> np.ndarray:
        """Row of each text, int64 ``[M]``.

        Raises:
            DataError: a text was never embedded.
        """
        wanted = text_keys(texts)
        at = np.searchsorted(self.keys, wanted)
        at = np.minimum(at, max(0, len(self.keys) - 1))
        missing = np.flatnonzero(self.keys[at] != wanted) if len(self.keys) else np.arange(len(wanted))
        if len(missing):
            raise DataError(
                f"{len(missing)} texts have no vector, first: {texts[int(missing[0])][:60]!r}",
                "the corpus changed after it was embedded: use a new --out",
            )
        return at

    def __call__(self, texts: Sequence[str]) -> Float32:
        """Unit vectors ``[M, D]`` of ``texts`` (an :class:`~xalign_dist.records.EmbedFn`)."""
        return self.main[self.rows(texts)]

    def second(self, texts: Sequence[str]) -> Float32 | None:
        """The second view's vectors ``[M, D]``, None when none was made."""
        return None if self.view is None else self.view[self.rows(texts)]


class _BlockEmbedder:
    """One actor of the pool: loads the encoder once, embeds blocks of texts to disk.

    The encoder is loaded at the first block: an error in a constructor would reach the driver
    as a dead actor without its reason.
    """

    def __init__(self, job: dict[str, Any], folder: str, threads: int | None) -> None:
        self.job, self.folder, self.threads = job, Path(folder), threads
        self.view_layer, self.batch = job["view_layer"], job["batch"]

    @functools.cached_property
    def encoder(self) -> Encoder:
        """Loaded once."""
        if self.threads:
            torch.set_num_threads(self.threads)
        return load_encoder(self.job["model"], EncoderConfig.model_validate(self.job["encoder"]))

    def __call__(self, blocks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows, faults = [], []
        for block, texts in zip(blocks["block"], blocks["texts"], strict=True):
            try:
                rows.append(self._one(int(block), list(texts)))
                faults.append("")
            except XalignError as err:
                # Ray Data passes on only the text of an error in an actor, so it travels as data.
                rows.append(0)
                faults.append(pack_error(err))
        return {"rows": np.array(rows), "fault": np.array(faults)}

    def _one(self, block: int, texts: list[str]) -> int:
        columns = {"key": pa.array(text_keys(texts))}
        if self.view_layer is None:
            columns["main"] = _vector_column(embed_texts(self.encoder, texts, batch_size=self.batch))
        else:
            main, view = embed_views(self.encoder, texts, self.view_layer, batch_size=self.batch)
            columns["main"], columns["view"] = _vector_column(main), _vector_column(view)
        write_table(pa.table(columns), str(_block_path(self.folder, block)))
        return len(texts)


def _vector_column(vectors_ND: Float32) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(vectors_ND, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1])


def _block_path(folder: Path, block: int) -> Path:
    return folder / f"block-{block:06d}.parquet"


def embed_corpus(
    texts: Iterable[str],
    job: EmbedJob,
    folder: str,
    runtime: RuntimeConfig,
    resources: Resources,
    progress: Progress | None = None,
) -> VectorStore:
    """Embed the distinct ``texts`` under ``folder`` and open them as a :class:`VectorStore`.

    ``progress`` is called with the number of texts newly done, block by block.
    """
    home, blocks, missing = _plan(texts, job, folder)
    home.mkdir(parents=True, exist_ok=True)
    if progress is not None:
        progress(sum(len(b) for i, b in enumerate(blocks) if i not in set(missing)))
    if missing:
        _run_pool(blocks, missing, job, home, runtime, resources, progress)
    return _open(home, len(blocks))


def is_embedded(texts: Iterable[str], job: EmbedJob, folder: str) -> bool:
    """Whether :func:`embed_corpus` with the same arguments would have nothing left to do."""
    return not _plan(texts, job, folder)[2]


def _plan(texts: Iterable[str], job: EmbedJob, folder: str) -> tuple[Path, list[list[str]], list[int]]:
    """Folder of the vectors, blocks of distinct texts, and the blocks that are not on disk yet."""
    unique = sorted(dict.fromkeys(texts), key=lambda t: (len(t), t))
    if not unique:
        raise DataError("no texts to embed", "check that the corpora are not empty after cleaning")
    digest = hashlib.sha256("\x00".join(unique).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    home = Path(folder) / f"{job.fingerprint()}-{digest}"
    blocks = [unique[i : i + BLOCK_TEXTS] for i in range(0, len(unique), BLOCK_TEXTS)]
    return home, blocks, [i for i in range(len(blocks)) if not _block_path(home, i).exists()]


def _run_pool(
    blocks: list[list[str]],
    missing: list[int],
    job: EmbedJob,
    home: Path,
    runtime: RuntimeConfig,
    resources: Resources,
    progress: Progress | None,
) -> None:
    actors = min(resources.embed_actors(runtime), len(missing))
    threads = None if resources.gpus else max(1, resources.cpus // (actors * resources.nodes))
    ds = ray.data.from_items([{"block": i, "texts": blocks[i]} for i in missing])
    settings = asdict(job) | {"model": for_workers(job.model), "encoder": job.encoder.model_dump()}
    with warnings.catch_warnings():
        # Of max_restarts: Ray Data has no named parameter for it yet (2.60).
        warnings.simplefilter("ignore", RayDeprecationWarning)
        done = ds.repartition(len(missing)).map_batches(
            _BlockEmbedder,
            fn_constructor_args=(settings, str(home.absolute()), threads),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            # Half a CPU each: the pool must leave room for Data's own tasks on a 2-CPU machine.
            num_cpus=0 if resources.gpus else 0.5,
            num_gpus=(1 if resources.gpus else 0),
            # On one machine a crashed worker would crash again; on several, another node takes over.
            max_restarts=-1 if resources.nodes > 1 else 0,
        )
    with users_errors():
        for batch in done.iter_batches(batch_size=None):
            for fault in filter(None, batch["fault"]):
                raise unpack_error(str(fault))
            if progress is not None:
                progress(int(np.sum(batch["rows"])))


def _open(home: Path, count: int) -> VectorStore:
    parts = [pq.read_table(_block_path(home, i)) for i in range(count)]
    table = pa.concat_tables(parts).combine_chunks()
    keys = table["key"].to_numpy()
    order = np.argsort(keys, kind="stable")
    view = _matrix(table, "view")[order] if "view" in table.column_names else None
    return VectorStore(keys[order], _matrix(table, "main")[order], view, home.name)


def _matrix(table: pa.Table, column: str) -> Float32:
    array = table[column].combine_chunks()
    flat = array.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(table.num_rows, -1)
