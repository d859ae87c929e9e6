"""Neighbour lists on disk by content: what was searched once is not searched again.

Sentences fall into generations: those of the first run, those that came with the second, and so on.
For each generation of queries and each generation of the searched side the lists are kept, block by
block. So a killed run goes on with the block it was at, and new sentences cost the search of the
new among all and of all among the new: N m + n (M + m) comparisons instead of (N + n) (M + m).

A generation of which a sentence is gone is searched again as part of the newest one.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from xalign_dist.errors import DataError, OutputError
from xalign_dist.mining.knn import MISSING, Neighbours, block_bounds, merge_topk
from xalign_dist.records import Float32, Int64

Bounds = tuple[int, int]


class BlockSearch(Protocol):
    """Searches block by block, as a shard pool does."""

    def blocks(
        self, query_ND: Float32, base_MD: Float32, k: int, bounds: Sequence[Bounds]
    ) -> Iterator[tuple[Bounds, Neighbours]]:
        """Lists of the rows of each block of queries among the rows of ``base_MD``."""
        ...


@runtime_checkable
class TwoWaySearch(BlockSearch, Protocol):
    """Also finds both directions at once, for less than twice the time of one."""

    def both_ways(
        self,
        left_ND: Float32,
        right_MD: Float32,
        k: int,
        bounds: Sequence[Bounds],
        keep: Callable[[Bounds, Neighbours], None],
    ) -> Neighbours:
        """Lists of the left rows to ``keep``, block by block; lists of the right rows as the answer."""
        ...


class Rows(NamedTuple):
    """One side: distinct content keys int64 ``[N]`` and unit vectors ``[N, D]``, in the same order."""

    keys: Int64
    vectors: Float32


class Side(NamedTuple):
    """The generations of a side: for each its number and the rows it has now."""

    name: str
    generations: list[tuple[int, Int64]]


class KnownLists:
    """The lists of one language pair under one encoder.

    Args:
        folder: theirs alone; its name must change with anything that changes a vector.
        k: neighbours.
    """

    def __init__(self, folder: Path, k: int) -> None:
        self.folder, self.k = folder / f"k{k}", k

    def both(self, search: BlockSearch, source: Rows, target: Rows) -> tuple[Neighbours, Neighbours]:
        """Sources among targets and targets among sources.

        Raises:
            DataError: repeated keys on a side.
            OutputError: no room, or no leave to write.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sides = self._side("source", source.keys), self._side("target", target.keys)
            if isinstance(search, TwoWaySearch):
                self._at_once(search, source, sides[0], target, sides[1])
            forward = self._lists(search, source, sides[0], target, sides[1])
            return forward, self._lists(search, target, sides[1], source, sides[0])
        except OSError as err:
            raise OutputError(
                f"{self.folder}: neighbour lists cannot be written ({err.strerror or 'no room'})",
                "free disk space and give the same command again: what is finished stays",
            ) from err

    def _side(self, name: str, key_N: Int64) -> Side:
        """Which rows belong to which generation; a new one for rows that belong to none."""
        row_of = {int(key): row for row, key in enumerate(key_N)}
        if len(row_of) != len(key_N):
            raise DataError(f"{name}: repeated texts", "collapse them with distinct() before mining")
        generations, free, last = [], np.ones(len(key_N), np.bool_), -1
        for file in sorted(self.folder.glob(f"{name}-*.npy")):
            last = int(file.stem.rpartition("-")[2])
            rows = [row_of.get(int(key), MISSING) for key in _keys(file)]
            if not rows or MISSING in rows or not free[rows].all():
                self._drop(name, last)
                continue
            generations.append((last, np.array(rows, np.int64)))
            free[rows] = False
        if free.any():
            rows_F = np.flatnonzero(free)
            _write(self.folder / f"{name}-{last + 1:04d}.npy", key_N[rows_F])
            generations.append((last + 1, rows_F))
        return Side(name, generations)

    def _drop(self, name: str, number: int) -> None:
        """Forget a generation and every list from or among its rows, its keys last."""
        for pattern in (f"{name}-{number:04d}-among-*.npz", f"*-among-{name}-{number:04d}-*.npz"):
            for file in self.folder.glob(pattern):
                file.unlink()
        (self.folder / f"{name}-{number:04d}.npy").unlink()

    def _at_once(
        self, search: TwoWaySearch, source: Rows, source_side: Side, target: Rows, target_side: Side
    ) -> None:
        """Put the lists of both directions on disk where nothing is known of either.

        A kill before the end leaves those of the sources that were finished; the rest is then searched
        one way at a time.
        """
        for a, source_rows in source_side.generations:
            for b, target_rows in target_side.generations:
                forward, backward = (
                    _stem(source_side, a, target_side, b),
                    _stem(target_side, b, source_side, a),
                )
                if any(next(self.folder.glob(f"{s}-*.npz"), None) for s in (forward, backward)):
                    continue
                vectors = _take(source.vectors, source_rows), _take(target.vectors, target_rows)
                bounds = block_bounds(len(source_rows))
                found = search.both_ways(*vectors, self.k, bounds, partial(self._keep, forward))
                for start, stop in block_bounds(len(target_rows)):
                    self._keep(backward, (start, stop), (found[0][start:stop], found[1][start:stop]))

    def _lists(
        self, search: BlockSearch, query: Rows, query_side: Side, base: Rows, base_side: Side
    ) -> Neighbours:
        scores = np.empty((len(query.keys), self.k), np.float32)
        ids = np.empty((len(query.keys), self.k), np.int64)
        for query_number, query_rows in query_side.generations:
            parts = []
            for base_number, base_rows in base_side.generations:
                stem = _stem(query_side, query_number, base_side, base_number)
                found = self._cell(
                    search, stem, _take(query.vectors, query_rows), _take(base.vectors, base_rows)
                )
                parts.append((found[0], np.where(found[1] == MISSING, MISSING, base_rows[found[1]])))
            scores[query_rows], ids[query_rows] = merge_topk(parts, self.k)
        return scores, ids

    def _cell(self, search: BlockSearch, stem: str, query_ND: Float32, base_MD: Float32) -> Neighbours:
        """Lists of one generation among another: blocks on disk are read, the others searched and kept."""
        done: dict[Bounds, Neighbours] = {}
        wanted = block_bounds(len(query_ND))
        for bounds in wanted:
            found = _read(self._block(stem, bounds), (bounds[1] - bounds[0], self.k))
            if found is not None:
                done[bounds] = found
        missing = [b for b in wanted if b not in done]
        if missing:
            for bounds, lists in search.blocks(query_ND, base_MD, self.k, missing):
                done[bounds] = lists
                self._keep(stem, bounds, lists)
        parts = [done[b] for b in wanted]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _keep(self, stem: str, bounds: Bounds, lists: Neighbours) -> None:
        _write(self._block(stem, bounds), lists[1], lists[0])

    def _block(self, stem: str, bounds: Bounds) -> Path:
        return self.folder / f"{stem}-{bounds[0]:010d}.npz"


def _stem(query: Side, query_number: int, base: Side, base_number: int) -> str:
    return f"{query.name}-{query_number:04d}-among-{base.name}-{base_number:04d}"


def _take(vectors_ND: Float32, rows: Int64) -> Float32:
    """Those rows; no copy where they are all of them in order."""
    if len(rows) == len(vectors_ND) and (rows[1:] > rows[:-1]).all():
        return vectors_ND
    return vectors_ND[rows]


def _keys(file: Path) -> list[int]:
    """Keys of a generation; none for a damaged file."""
    try:
        return list(np.load(file, allow_pickle=False).tolist())
    except (ValueError, EOFError):
        return []


def _read(file: Path, shape: tuple[int, int]) -> Neighbours | None:
    """Lists of a block; None where there are none, or damaged ones."""
    try:
        with np.load(file, allow_pickle=False) as found:
            scores, ids = found["scores"], found["ids"]
    except (FileNotFoundError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return (scores, ids) if scores.shape == ids.shape == shape else None


def _write(file: Path, ids: Int64, scores: Float32 | None = None) -> None:
    aside = file.with_name(f"{file.name}.{os.getpid()}.writing")
    try:
        with aside.open("wb") as out:
            if scores is None:
                np.save(out, ids, allow_pickle=False)
            else:
                np.savez(out, scores=scores, ids=ids)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
