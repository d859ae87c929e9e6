"""Vectors of distinct texts, found by text key: put together from the blocks of the embedding pool.

A small store is in memory. From :data:`MAPPED_FROM` bytes on it is a file beside the blocks that is mapped
into memory, so that a corpus of vectors may be larger than the machine's: pages come when they are read,
and go when something else needs the room.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.corpora.arrays import mapped_rows
from xalign_dist.errors import DataError, OutputError
from xalign_dist.records import Float32, Int64, text_keys

MAPPED_FROM = 2**30
"""Bytes of vectors from which on they are not held in memory."""


class VectorStore:
    """Vectors of distinct texts.

    Args:
        keys: int64 ``[N]``, distinct, in any order.
        main: float32 ``[N, D]`` unit vectors.
        view: float32 ``[N, D]`` of the second view, or None.
        identity: names encoder and texts; equal for equal vectors.
        encoder: names the encoder alone; equal where equal texts have equal vectors.
    """

    def __init__(self, keys: Int64, main: Float32, view: Float32 | None, identity: str, encoder: str) -> None:
        self.keys, self.main, self.view = keys, main, view
        self.identity, self.encoder = identity, encoder
        self._order = np.argsort(keys)

    def rows(self, texts: Sequence[str]) -> Int64:
        """Row of each text, int64 ``[M]``.

        Raises:
            DataError: a text was never embedded.
        """
        wanted = text_keys(texts)
        place = np.searchsorted(self.keys, wanted, sorter=self._order)
        at = self._order[np.minimum(place, len(self.keys) - 1)]
        missing = np.flatnonzero(self.keys[at] != wanted)
        if len(missing):
            raise DataError(
                f"{len(missing)} texts have no vector, first: {texts[int(missing[0])][:60]!r}",
                "the corpus changed after it was embedded: use a new --out",
            )
        return at

    def __call__(self, texts: Sequence[str]) -> Float32:
        """Unit vectors ``[M, D]`` of ``texts`` (an :class:`~xalign_dist.records.EmbedFn`)."""
        return taken(self.main, self.rows(texts))


def taken(vectors_ND: Float32, rows_M: Int64) -> Float32:
    """Those rows ``[M, D]``; no copy where they follow each other, as those of a corpus do in its store."""
    if len(rows_M) and (np.diff(rows_M) == 1).all():
        return vectors_ND[rows_M[0] : rows_M[-1] + 1]
    return vectors_ND.take(rows_M, axis=0)


def block_path(folder: Path, block: int) -> Path:
    """The file of a block of texts."""
    return folder / f"block-{block:06d}.parquet"


def block_files(folder: Path) -> list[Path]:
    """Those that are there, in order."""
    return sorted(folder.glob("block-*.parquet"))


def read_block(file: Path, columns: list[str] | None = None) -> pa.Table:
    """A block: ``key``, ``main``, and ``view`` where there is a second one.

    Raises:
        DataError: unreadable.
    """
    try:
        return pq.read_table(file, columns=columns)
    except (OSError, pa.ArrowException) as err:
        raise DataError(
            f"{file}: vectors that cannot be read ({str(err).splitlines()[0]})",
            "delete the file and give the same command again: only its texts are embedded anew",
        ) from None


def open_store(folder: Path, keys: Int64, identity: str) -> VectorStore:
    """The vectors of ``keys``, in that order, from the blocks in ``folder``, one block in memory at a time.

    Raises:
        DataError: a block cannot be read.
        OutputError: no room for the file that is mapped.
    """
    schema = pq.read_schema(block_files(folder)[0])
    shape = len(keys), schema.field("main").type.list_size
    columns = [name for name in ("main", "view") if name in schema.names]
    if len(columns) * 4 * shape[0] * shape[1] < MAPPED_FROM:
        found = {name: np.empty(shape, np.float32) for name in columns}
        _fill(found, folder, keys)
    else:
        found = _mapped(folder, keys, columns, shape)
    return VectorStore(keys, found["main"], found.get("view"), identity, folder.name)


def _fill(out: Mapping[str, Float32], folder: Path, keys: Int64) -> None:
    for rows, table, which in _places(folder, keys):
        for name, vectors_ND in out.items():
            column = table[name].combine_chunks()
            block = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, vectors_ND.shape[1])
            vectors_ND[rows] = block if len(which) == len(block) else block[which]


def _places(folder: Path, keys: Int64) -> Iterator[tuple[Int64, pa.Table, Int64]]:
    """(rows of the store, block, which of its rows they are). The folder may hold texts of other corpora."""
    order = np.argsort(keys)
    filled = np.zeros(len(keys), np.bool_)
    for file in block_files(folder):
        table = read_block(file)
        own = table["key"].to_numpy()
        place = order[np.minimum(np.searchsorted(keys, own, sorter=order), len(keys) - 1)]
        which = np.flatnonzero((keys[place] == own) & ~filled[place])
        filled[place[which]] = True
        if len(which):
            yield place[which], table, which


def _mapped(folder: Path, keys: Int64, columns: list[str], shape: tuple[int, int]) -> dict[str, Float32]:
    """The same as files, made where they are not there; those of another corpus make room first."""
    name = hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()
    files = {column: folder / f".whole-{name}.{column}.npy" for column in columns}
    for old in folder.glob(".whole-*"):
        if old not in files.values():
            old.unlink(missing_ok=True)
    if not all(file.exists() for file in files.values()):
        aside = {column: file.with_suffix(".writing") for column, file in files.items()}
        try:
            out = {c: mapped_rows(f, *shape) for c, f in aside.items()}
            _fill(out, folder, keys)
            for column, vectors in out.items():
                vectors.flush()
                aside[column].replace(files[column])
        except OSError as err:
            size = f"{len(columns) * 4 * shape[0] * shape[1] / 1e9:,.1f} GB of vectors"
            raise OutputError(
                f"{folder}: {size} cannot be written ({err.strerror or 'no room'})",
                "free disk space and give the same command again: what is embedded stays",
            ) from err
        finally:
            for file in aside.values():
                file.unlink(missing_ok=True)
    # Copy on write: torch complains of arrays that may not be written to, and nobody writes.
    return {column: np.load(file, mmap_mode="c", allow_pickle=False) for column, file in files.items()}
