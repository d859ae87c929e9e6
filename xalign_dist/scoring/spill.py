"""Rows sorted into many files at once, in bounded memory and with no file left open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from xalign_dist.errors import OutputError

SPILL_BYTES = 64 * 2**20


class Spill:
    """Appends tables to files by number; what is held back is at most ``limit`` bytes."""

    def __init__(self, folder: Path, limit: int = SPILL_BYTES) -> None:
        self.folder, self.limit = folder, limit
        self._held: dict[int, list[pa.Table]] = {}
        self._bytes = 0

    def add(self, number: int, table: pa.Table) -> None:
        """Append ``table`` to file ``number``.

        Raises:
            OutputError: not writable, or the disk is full.
        """
        # A slice would keep the whole table that it was cut from.
        self._held.setdefault(number, []).append(table.take(pa.array(range(table.num_rows), pa.int64())))
        self._bytes += self._held[number][-1].nbytes
        if self._bytes > self.limit:
            self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for number, tables in self._held.items():
                # A file is one stream after another: appending needs nothing of what is there.
                with spill_path(self.folder, number).open("ab") as out:
                    whole = pa.concat_tables(tables).combine_chunks()
                    with pa.ipc.new_stream(out, whole.schema) as stream:
                        stream.write_table(whole)
        except OSError as err:
            raise OutputError(
                f"{self.folder}: cannot be written ({err.strerror})",
                "free disk space, or choose another --out",
            ) from err
        self._held, self._bytes = {}, 0


def spill_path(folder: Path, number: int) -> Path:
    """File ``number`` of a spill."""
    return folder / f"{number:06d}.arrow"


def read_spill(folder: Path, number: int) -> Iterator[pa.Table]:
    """The tables of one file, in the order in which they were written; none where nothing was added."""
    path = spill_path(folder, number)
    if not path.exists():
        return
    with path.open("rb") as file:
        end = path.stat().st_size
        while file.tell() < end:
            with pa.ipc.open_stream(file) as stream:
                yield stream.read_all()
