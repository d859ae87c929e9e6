"""Parquet, read by row batches and never whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.columns import TEXT_COLUMNS, check_columns, map_columns
from xalign_dist.corpora.places import reason_of
from xalign_dist.corpora.rows import Raw
from xalign_dist.errors import DataError
from xalign_dist.records import PAIR, SENTENCE

_BATCH = 10_000


def read_parquet(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Rows of one Parquet file; of its columns, those that records have.

    Raises:
        DataError: not Parquet, cut off, or a column is missing.
    """
    text = TEXT_COLUMNS[cfg.kind]
    ours = (PAIR if cfg.kind == "pairs" else SENTENCE).names
    try:
        with filesystem.open(path, "rb") as handle:
            file = pq.ParquetFile(handle)
            names = file.schema_arrow.names
            check_columns(names, cfg.columns, text, path)
            wanted = {*cfg.columns.values(), *ours}
            number = 0
            for batch in file.iter_batches(_BATCH, columns=[n for n in names if n in wanted]):
                table = map_columns(pa.Table.from_batches([batch]), cfg.columns, text, path)
                for fields, fault in _rows(table):
                    yield Raw(fields, f"row {number}", fault)
                    number += 1
    except FileNotFoundError as err:
        raise DataError(f"{path}: no such file", "check the path") from err
    except (pa.ArrowException, OSError) as err:
        reason = reason_of(err) if isinstance(err, OSError) else str(err).splitlines()[0]
        raise DataError(
            f"{path}: not readable as Parquet ({reason})", "the file is damaged or cut off: write it again"
        ) from err


def _rows(table: pa.Table) -> Iterator[tuple[dict[str, Any], str | None]]:
    try:
        rows = table.to_pylist()
    except UnicodeDecodeError:
        # Parquet does not check its strings; one bad cell must not cost the batch.
        yield from (_row(table.slice(i, 1)) for i in range(table.num_rows))
    else:
        yield from ((row, None) for row in rows)


def _row(single: pa.Table) -> tuple[dict[str, Any], str | None]:
    fields, fault = {}, None
    for name in single.column_names:
        try:
            fields[name] = single[name][0].as_py()
        except UnicodeDecodeError as err:
            fault = f"{name}: invalid UTF-8 at byte {err.start}"
    return fields, fault
