"""Parquet tables in and out of any file system; written whole or not at all."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.corpora.columns import map_columns
from xalign_dist.corpora.places import locate
from xalign_dist.errors import DataError, OutputError


def write_table(table: pa.Table, path: str, compression: str = "zstd") -> None:
    """Write one Parquet file at a path or fsspec URI; ``compression`` as Parquet names it, or ``none``.

    Raises:
        OutputError: not writable.
    """
    write_batches([table], table.schema, path, compression)


def write_batches(
    batches: Iterable[pa.Table], schema: pa.Schema, path: str, compression: str = "zstd"
) -> int:
    """Stream tables into one Parquet file; the number of rows written. An error leaves nothing behind.

    Raises:
        OutputError: not writable, or the disk is full.
    """
    rows = 0
    with (
        _aside(path) as (filesystem, temporary),
        filesystem.open(temporary, "wb") as out,
        pq.ParquetWriter(out, schema, compression=compression) as writer,
    ):
        for table in batches:
            writer.write_table(table.select(schema.names).cast(schema))
            rows += table.num_rows
    return rows


@contextlib.contextmanager
def _aside(path: str) -> Iterator[tuple[Any, str]]:
    filesystem, target = locate(path)
    if filesystem.isdir(target):
        raise OutputError(f"{path}: is a folder", "name a file in it")
    parent, _, name = target.rpartition("/")
    temporary = f"{parent}/.{name}.{uuid.uuid4().hex[:8]}" if parent else f".{name}.{uuid.uuid4().hex[:8]}"
    try:
        if parent:
            filesystem.makedirs(parent, exist_ok=True)
        yield filesystem, temporary
        filesystem.mv(temporary, target)
    except OSError as err:
        _remove(filesystem, temporary)
        reason = err.strerror or str(err)
        raise OutputError(f"{path}: cannot be written ({reason})", "choose another place") from err
    except BaseException:
        _remove(filesystem, temporary)
        raise


def _remove(filesystem: Any, path: str) -> None:
    with contextlib.suppress(OSError):
        if filesystem.exists(path):
            filesystem.rm(path)


def read_table(path: str, columns: Mapping[str, str] | None = None, required: Sequence[str] = ()) -> pa.Table:
    """Read one Parquet file or folder whole, with columns renamed to ours.

    Args:
        columns: our column -> the file's.
        required: our columns that must be there; others are kept beside them.

    Raises:
        DataError: missing, damaged, or a column is missing.
    """
    filesystem, target = locate(path)
    if not filesystem.exists(target):
        raise DataError(f"{path}: no such file", "check the path")
    try:
        table = pq.read_table(target, filesystem=filesystem)
    except (pa.ArrowInvalid, OSError) as err:
        reason = str(err).splitlines()[0]
        raise DataError(f"{path}: not readable as Parquet ({reason})", "write the file again") from err
    return map_columns(table, columns or {}, required, path)
