"""One shard of vectors on disk: what an actor needs to open its index, at first and after a crash."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.mining.index import VectorIndex, build_index, load_index
from xalign_dist.records import Float32


@dataclass(frozen=True)
class Shard:
    """Rows ``[start, stop)`` of the vectors in ``path`` (a .npy file), indexed as ``kind``.

    ``saved``: where the built index is kept; empty for one that is built as fast as it is read.
    """

    path: str
    start: int
    stop: int
    kind: str
    saved: str

    def vectors(self) -> Float32:
        """The rows, mapped into memory.

        Raises:
            DataError: the file is gone, cut short or damaged.
        """
        try:
            part: Float32 = np.load(self.path, mmap_mode="r", allow_pickle=False)[self.start : self.stop]
        except (OSError, ValueError, EOFError) as err:
            raise self._unreadable(err) from None
        if len(part) != self.stop - self.start:
            raise self._unreadable(f"{len(part)} rows from {self.start} instead of {self.stop - self.start}")
        return part

    def _unreadable(self, why: object) -> DataError:
        return DataError(
            f"{self.path}: the vectors of a shard cannot be read ({why})",
            "give the same command again: what is finished stays, the file is written anew;"
            " on a cluster, put --out on a disk that every node sees",
        )

    def open(self) -> VectorIndex:
        """The index: read where it was built before, else built (and kept)."""
        vectors_ND = self.vectors()
        if not self.saved:
            return build_index(vectors_ND, self.kind)
        with contextlib.suppress(DataError):
            found = load_index(self.saved, vectors_ND)
            if found.rows == len(vectors_ND):
                return found
        index = build_index(vectors_ND, self.kind)
        index.save(self.saved)
        return index
