"""Reading and writing a run directory: a local path or any fsspec URI, missing files told apart."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from xalign_dist.errors import DataError, OutputError


def join(run: str, *parts: str) -> str:
    """A path inside the run directory."""
    return "/".join([str(run).rstrip("/"), *parts])


def read_bytes(path: str) -> bytes | None:
    """A file's content, None where there is no such file.

    Raises:
        DataError: it is there and cannot be read.
    """
    try:
        fs, target = url_to_fs(path)
        return bytes(fs.cat_file(target)) if fs.isfile(target) else None
    except (OSError, ValueError, ImportError) as err:
        raise DataError(f"{path}: cannot be read ({err})", "check the path and its permissions") from err


def read_text(path: str) -> str | None:
    """A UTF-8 file, None where there is no such file."""
    data = read_bytes(path)
    try:
        return None if data is None else data.decode("utf-8")
    except UnicodeDecodeError as err:
        raise DataError(f"{path}: not UTF-8 ({err})", "write the file again") from err


def read_json(path: str) -> dict[str, Any] | None:
    """A JSON object, None where there is no such file.

    Raises:
        DataError: it is not a JSON object.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as err:
        raise DataError(f"{path}: not JSON ({err})", "run the stage that writes it again") from err
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds {type(found).__name__}, not an object", "write the file again")
    return found


def read_json_lines(path: str) -> list[dict[str, Any]]:
    """JSON lines. A last line cut short, as a killed run leaves it, is left out.

    Raises:
        DataError: a line before the last is not JSON.
    """
    lines = [line for line in (read_text(path) or "").splitlines() if line.strip()]
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as err:
            if number < len(lines):
                raise DataError(f"{path}:{number}: not JSON ({err})", "delete the file") from err
    return rows


def read_rows(path: str, columns: list[str], optional: Sequence[str] = ()) -> list[dict[str, Any]] | None:
    """Rows of a Parquet file as dicts of ``columns`` and those ``optional`` ones that it has.

    None where there is no such file.

    Raises:
        DataError: not Parquet, or a column is missing.
    """
    data = read_bytes(path)
    if data is None:
        return None
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (OSError, pa.ArrowException) as err:
        raise DataError(f"{path}: not readable as Parquet ({err})", "write the file again") from err
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)} (it has {', '.join(table.column_names)})",
            "write it with this version of xalign",
        )
    return list(table.select([*columns, *(c for c in optional if c in table.column_names)]).to_pylist())


def list_names(folder: str) -> list[str]:
    """Names in a folder, sorted; empty where there is no such folder."""
    try:
        fs, target = url_to_fs(folder)
        if not fs.isdir(target):
            return []
        return sorted(str(p).rstrip("/").rsplit("/", 1)[-1] for p in fs.ls(target, detail=False))
    except (OSError, ValueError, ImportError) as err:
        raise DataError(f"{folder}: cannot be listed ({err})", "check the path and its permissions") from err


def write_text(path: str, text: str) -> None:
    """Write a file whole or not at all: beside the target, then renamed over it.

    Raises:
        OutputError: the place is not writable.
    """
    try:
        fs, target = url_to_fs(path)
        aside = f"{target}.{uuid.uuid4().hex[:8]}.part"
        fs.pipe_file(aside, text.encode("utf-8"))
        fs.mv(aside, target)
    except OSError as err:
        raise OutputError(f"{path}: cannot be written ({err})", "check the path and its permissions") from err
