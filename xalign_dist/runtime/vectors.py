"""Embed every distinct text of a corpus once, on a pool of actors, block by block on disk.

Ray Data streams blocks of texts through the pool; each block is one Parquet file, written
aside and renamed. Texts are found by key, so a killed run embeds only what is missing, and a
corpus that grew only what is new.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xalign_dist.config import EncoderConfig, RuntimeConfig
from xalign_dist.corpora.tables import write_table
from xalign_dist.encoder import embed_texts, embed_views
from xalign_dist.errors import DataError
from xalign_dist.records import Float32, text_keys
from xalign_dist.runtime.lost_time import Begun
from xalign_dist.runtime.piece_pool import PieceActor, run_pieces
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

    def plain(self) -> dict[str, Any]:
        """As plain data, for an actor."""
        return asdict(self) | {"encoder": self.encoder.model_dump()}

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


class _BlockEmbedder(PieceActor):
    """Embeds blocks of texts to disk."""

    def __init__(self, job: Mapping[str, Any], threads: int | None, begun: Begun, folder: str) -> None:
        super().__init__(job, threads, begun)
        self.folder = Path(folder)

    def work(self, piece: int, texts: list[str]) -> int:
        """A file a block."""
        layer, batch = self.job["view_layer"], self.job["batch"]
        columns = {"key": pa.array(text_keys(texts))}
        if layer is None:
            columns["main"] = _vector_column(embed_texts(self.encoder, texts, batch_size=batch))
        else:
            main, view = embed_views(self.encoder, texts, layer, batch_size=batch)
            columns["main"], columns["view"] = _vector_column(main), _vector_column(view)
        # Unit vectors do not compress (8 %), and unpacking them would be half of the time to read them.
        write_table(pa.table(columns), str(block_path(self.folder, piece)), compression="none")
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
    items = [{"piece": i, "texts": texts} for i, texts in missing.items()]
    pool, home = resources.now().pool(runtime, len(missing)), home.absolute()
    run_pieces(_BlockEmbedder, (str(home),), job.plain(), items, pool, home, progress)
