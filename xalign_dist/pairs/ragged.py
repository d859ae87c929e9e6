"""Rows of different lengths in two arrays: 4 bytes a token, where lists of Python take 36."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xalign_dist.records import Int64


@dataclass(frozen=True)
class Ragged:
    """N rows of token ids: row i is ``values[offsets_N1[i] : offsets_N1[i + 1]]``.

    Attributes:
        values: int32, of all rows one after another.
        offsets_N1: int64 ``[N + 1]``, from 0 on.
    """

    values: npt.NDArray[np.int32]
    offsets_N1: Int64

    @staticmethod
    def of(rows: Ragged | Sequence[Sequence[int]]) -> Ragged:
        """Lists of ids; what is ragged already as it is."""
        if isinstance(rows, Ragged):
            return rows
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(r) for r in rows], out=offsets[1:])
        return Ragged(np.fromiter((i for r in rows for i in r), np.int32, int(offsets[-1])), offsets)

    @staticmethod
    def concatenate(parts: Iterable[Ragged]) -> Ragged:
        """The rows of all parts, in their order."""
        every = list(parts)
        lengths = [np.zeros(1, np.int64), *(p.lengths_N for p in every)]
        values = [np.zeros(0, np.int32), *(p.values for p in every)]
        return Ragged(np.concatenate(values), np.cumsum(np.concatenate(lengths)))

    def __len__(self) -> int:
        return len(self.offsets_N1) - 1

    @property
    def lengths_N(self) -> Int64:
        """Tokens of each row, int64 ``[N]``."""
        return np.diff(self.offsets_N1)

    def where(self, keep_N: npt.NDArray[np.bool_]) -> Ragged:
        """The rows for which ``keep_N`` is true."""
        lengths_N = self.lengths_N
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_N[keep_N])])
        return Ragged(self.values[np.repeat(keep_N, lengths_N)], offsets)
