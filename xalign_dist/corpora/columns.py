"""A file's columns under our names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import pyarrow as pa

from xalign_dist.errors import DataError


def map_columns(
    table: pa.Table, columns: Mapping[str, str], required: Sequence[str], path: str
) -> pa.Table:
    """Rename the file's columns to ours.

    Args:
        columns: our name -> the file's name.
        required: our names that must be there afterwards.

    Raises:
        DataError: a column is missing; the message lists those that exist and the nearest one.
    """
    names = table.column_names
    for theirs in columns.values():
        require_column(names, theirs, path)
    wanted = {theirs: ours for ours, theirs in columns.items()}
    kept = [n for n in names if n in wanted or n not in columns]
    table = table.select(kept).rename_columns([wanted.get(n, n) for n in kept])
    for ours in required:
        require_column(table.column_names, ours, path)
    return table


def require_column(names: Sequence[str], wanted: str, path: str) -> None:
    """Raise :class:`~xalign_dist.errors.DataError` unless ``wanted`` is among ``names``."""
    if wanted in names:
        return
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    hint = f"--columns {wanted}={near[0]}" if near else f"--columns {wanted}=THEIRS"
    raise DataError(
        f"{path}: no column {wanted!r}; it has {', '.join(names) or 'none'}",
        f"name the column that holds it, e.g. {hint} (in a config: columns)",
    )
