"""Embed every distinct text of a corpus once, on a pool of actors, block by block on disk.

Ray Data streams blocks of texts through the pool; each block is one Parquet file, written
aside and renamed. Texts are found by key, so a killed run embeds only what is missing, and a
corpus that grew only what is new.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.util.annotations import RayDeprecationWarning

from xalign_dist.config import EncoderConfig, RuntimeConfig
from xalign_dist.corpora.tables import write_table
from xalign_dist.encoder import Encoder, embed_texts, embed_views, load_encoder
from xalign_dist.errors import DataError, XalignError
from xalign_dist.records import Float32, text_keys
from xalign_dist.runtime.faults import for_workers, pack_error, unpack_error, users_errors
from xalign_dist.runtime.lost_time import Begun, lost_pieces
from xalign_dist.runtime.resources import Resources
from xalign_dist.runtime.vector_store import VectorStore, block_files, block_path, open_store, read_block

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
    return [Path(model).name, _content(str(weights), stat.st_size, stat.st_mtime_ns)]


@functools.lru_cache(maxsize=64)
def _content(file: str, size: int, changed: int) -> str:
    """Not place and time: a run that goes on elsewhere, from a copy, has the same vectors."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


class _BlockEmbedder:
    """One actor of the pool: loads the encoder once, embeds blocks of texts to disk.

    The encoder is loaded at the first block: an error in a constructor would reach the driver
    as a dead actor without its reason.
    """

    def __init__(self, job: dict[str, Any], folder: str, threads: int | None, begun: Begun) -> None:
        self.job, self.folder, self.threads, self.begun = job, Path(folder), threads, begun
        self.view_layer, self.batch = job["view_layer"], job["batch"]

    @functools.cached_property
    def encoder(self) -> Encoder:
        """Loaded once."""
        if self.threads:
            torch.set_num_threads(self.threads)
        return load_encoder(self.job["model"], EncoderConfig.model_validate(self.job["encoder"]))

    def __call__(self, blocks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows, faults, lost = [], [], []
        for block, texts in zip(blocks["block"], blocks["texts"], strict=True):
            lost.append(self.begun.begin(int(block)))
            try:
                rows.append(self._one(int(block), list(texts)))
                self.begun.end(int(block))
                faults.append("")
            except XalignError as err:
                # Ray Data passes on only the text of an error in an actor, so it travels as data.
                rows.append(0)
                faults.append(pack_error(err))
        return {"rows": np.array(rows), "fault": np.array(faults), "lost": np.array(lost)}

    def _one(self, block: int, texts: list[str]) -> int:
        columns = {"key": pa.array(text_keys(texts))}
        if self.view_layer is None:
            columns["main"] = _vector_column(embed_texts(self.encoder, texts, batch_size=self.batch))
        else:
            main, view = embed_views(self.encoder, texts, self.view_layer, batch_size=self.batch)
            columns["main"], columns["view"] = _vector_column(main), _vector_column(view)
        # Unit vectors do not compress (8 %), and unpacking them would be half of the time to read them.
        write_table(pa.table(columns), str(block_path(self.folder, block)), compression="none")
        return len(texts)


def _vector_column(vectors_ND: Float32) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(vectors_ND, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1])


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
    plan = _plan(texts, job, folder)
    plan.home.mkdir(parents=True, exist_ok=True)
    if progress is not None:
        progress(len(plan.keys) - sum(map(len, plan.missing.values())))
    if plan.missing:
        _run_pool(plan.missing, job, plan.home, runtime, resources, progress)
    return open_store(plan.home, plan.keys, plan.identity)


def open_embedded(texts: Iterable[str], job: EmbedJob, folder: str) -> VectorStore | None:
    """What :func:`embed_corpus` would give, without Ray; None where it has anything left to do."""
    plan = _plan(texts, job, folder)
    return None if plan.missing else open_store(plan.home, plan.keys, plan.identity)


@dataclass(frozen=True)
class _Plan:
    """Folder of the vectors, keys of the texts as they come, blocks to embed, and what to call it all."""

    home: Path
    keys: np.ndarray
    missing: dict[int, list[str]]
    identity: str


def _plan(texts: Iterable[str], job: EmbedJob, folder: str) -> _Plan:
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        raise DataError("no texts to embed", "check that the corpora are not empty after cleaning")
    home, keys = Path(folder) / job.fingerprint(), text_keys(distinct)
    # Of the set of texts: their order changes no vector.
    digest = hashlib.sha256(np.sort(keys).tobytes()).hexdigest()[:12]
    files = block_files(home)
    there = [read_block(f, ["key"])["key"].to_numpy() for f in files]
    new = ~np.isin(keys, np.concatenate(there)) if there else np.ones(len(keys), np.bool_)
    # Of like length together: that is how encoders are fast.
    todo = sorted((text for text, is_new in zip(distinct, new, strict=True) if is_new), key=_by_length)
    first = 1 + max((int(f.stem.rpartition("-")[2]) for f in files), default=-1)
    blocks = [todo[i : i + BLOCK_TEXTS] for i in range(0, len(todo), BLOCK_TEXTS)]
    return _Plan(home, keys, dict(enumerate(blocks, first)), f"{home.name}-{digest}")


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text


def _run_pool(
    missing: dict[int, list[str]],
    job: EmbedJob,
    home: Path,
    runtime: RuntimeConfig,
    resources: Resources,
    progress: Progress | None,
) -> None:
    pool = resources.now().pool(runtime, len(missing))
    # A block each from the start: a task of Data's own would find no CPU where every node is full of actors.
    items = [{"block": i, "texts": texts} for i, texts in missing.items()]
    ds = ray.data.from_items(items, override_num_blocks=len(items))
    settings = asdict(job) | {"model": for_workers(job.model), "encoder": job.encoder.model_dump()}
    begun = Begun(home.absolute())
    with warnings.catch_warnings():
        # Of max_restarts: Ray Data has no named parameter for it yet (2.60).
        warnings.simplefilter("ignore", RayDeprecationWarning)
        done = ds.map_batches(
            _BlockEmbedder,
            fn_constructor_args=(settings, str(home.absolute()), pool.threads, begun),
            batch_size=1,
            # Those that have no node yet wait for one, while the others work.
            compute=ray.data.ActorPoolStrategy(size=pool.actors),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            # On one machine a crashed worker would crash again; on several, another node takes over.
            max_restarts=-1 if pool.moves else 0,
            **({"label_selector": dict(pool.labels)} if pool.labels else {}),
        )
    with contextlib.closing(begun), users_errors():
        for batch in done.iter_batches(batch_size=None):
            lost_pieces(batch["lost"])
            for fault in filter(None, batch["fault"]):
                raise unpack_error(str(fault))
            if progress is not None:
                progress(int(np.sum(batch["rows"])))
