"""The sample of each group: drawn while its rows stream by, the same for the same corpus and seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from xalign_dist.records import Int64

Group = tuple[str, str, str]
"""Source language, target language, corpus."""

Key = tuple[str, ...]
"""What is calibrated together: a :data:`Group`, or a language pair with all its corpora."""


def priority(row_N: Int64, seed: int) -> npt.NDArray[np.uint64]:
    """A pseudo-random number for each row number, uint64 ``[N]`` (splitmix64)."""
    # uint64 arithmetic is modulo 2**64, which is what the generator is defined by.
    mixed = row_N.astype(np.uint64) + np.uint64(seed) * np.uint64(0x632BE59BD9B4E019)
    mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)


class Draw:
    """At most ``most`` rows of each key, those of lowest :func:`priority`; and how many rows each has."""

    def __init__(self, most: int, seed: int) -> None:
        self.most, self.seed = most, seed
        self.pairs: dict[Group, int] = {}
        self._rows: dict[Key, Int64] = {}

    def add(self, group: Group, row_N: Int64) -> None:
        """Rows of one group; they count for its language pair too."""
        self.pairs[group] = self.pairs.get(group, 0) + len(row_N)
        for key in (group, group[:2]):
            rows = np.concatenate([self._rows.get(key, np.zeros(0, np.int64)), row_N])
            self._rows[key] = self._least(rows) if len(rows) > 2 * self.most else rows

    def _least(self, row_N: Int64) -> Int64:
        if len(row_N) <= self.most:
            return row_N
        return row_N[np.argpartition(priority(row_N, self.seed), self.most - 1)[: self.most]]

    def rows(self, key: Key) -> Int64:
        """The rows drawn for ``key``, ascending."""
        return np.sort(self._least(self._rows[key]))


def calibrated_with(pairs: Mapping[Group, int], min_pairs: int) -> dict[Group, Key]:
    """Which key each group is calibrated as: itself, or its language pair where it is small and not alone."""
    corpora: dict[Key, int] = {}
    for group in pairs:
        corpora[group[:2]] = corpora.get(group[:2], 0) + 1
    return {g: g[:2] if n < min_pairs and corpora[g[:2]] > 1 else g for g, n in sorted(pairs.items())}
