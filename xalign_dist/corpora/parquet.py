"""Parquet, read by row batches and never whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.columns import map_columns
from xalign_dist.corpora.rows import Raw
from xalign_dist.errors import DataError

_BATCH = 10_000


def read_parquet(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Rows of one Parquet file.

    Raises:
        DataError: not Parquet, cut off, or a column is missing.
    """
    text = ("src", "tgt") if cfg.kind == "pairs" else ("text",)
    try:
        with filesystem.open(path, "rb") as handle:
            file = pq.ParquetFile(handle)
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                table = map_columns(pa.Table.from_batches([batch]), cfg.columns, text, path)
                for fields in table.to_pylist():
                    yield Raw(fields, f"row {number}")
                    number += 1
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as err:
        reason = str(err).splitlines()[0]
        raise DataError(
            f"{path}: not readable as Parquet ({reason})", "the file is damaged or cut off: write it again"
        ) from err
