"""Arrays on disk that are filled through a memory map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

MappedRows = np.memmap[Any, np.dtype[np.float32]]


def mapped_rows(path: Path, rows: int, width: int) -> MappedRows:
    """A new .npy file at ``path`` as a writable map, float32 ``[rows, width]``; its room is taken first.

    A file that is only given its length takes room as it is filled, and where the disk is full by then the
    system ends the process (SIGBUS), without an error that could be told.

    Raises:
        OSError: no room, or not writable; a part of the file may be left behind.
    """
    out: MappedRows = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return out
