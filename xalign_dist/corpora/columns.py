"""A file's columns under our names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from xalign_dist.errors import DataError

TEXT_COLUMNS = {"pairs": ("src", "tgt"), "sentences": ("text",)}
"""The columns that every corpus of a kind must have."""


def map_columns(table: pa.Table, columns: Mapping[str, str], required: Sequence[str], path: str) -> pa.Table:
    """Rename the file's columns to ours; a column that already has one of our mapped names is dropped.

    Args:
        columns: our name -> the file's name.
        required: our names that must be there afterwards.

    Raises:
        DataError: a column is missing; the message lists those that exist and the nearest one.
    """
    check_columns(table.column_names, columns, required, path)
    taken = set(columns.values())
    plain = [n for n in table.column_names if n not in taken and n not in columns]
    chosen = {n: n for n in plain} | dict(columns)
    return table.select(list(chosen.values())).rename_columns(list(chosen))


def map_fields(fields: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """One row under our names; a mapped column that the row lacks is None."""
    return {**fields, **{ours: fields.get(theirs) for ours, theirs in columns.items()}}


def check_columns(
    names: Sequence[str], columns: Mapping[str, str], required: Sequence[str], path: str
) -> None:
    """Raise :class:`~xalign_dist.errors.DataError` unless every mapped and every required column is there."""
    for ours in dict.fromkeys([*columns, *required]):
        theirs = columns.get(ours, ours)
        if theirs not in names:
            raise _missing(names, ours, theirs, path)


def _missing(names: Sequence[str], ours: str, theirs: str, path: str) -> DataError:
    lowered = {n.lower(): n for n in names}
    near = difflib.get_close_matches(theirs.lower(), list(lowered), n=1, cutoff=0.4)
    hint = f"{ours}={lowered[near[0]]}" if near else f"{ours}=THEIRS"
    return DataError(
        f"{path}: no column {theirs!r}; it has {', '.join(names) or 'none'}",
        f"name the column that holds {ours}, e.g. --columns {hint} (in a config: columns)",
    )
