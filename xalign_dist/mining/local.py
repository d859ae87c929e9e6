"""Exact search in this process, both directions from one product, where nothing has to be spread."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from xalign_dist.mining.calibrate import random_units
from xalign_dist.mining.index import TIE_SLACK, BestColumns, build_index, set_threads
from xalign_dist.mining.knn import Neighbours, check_vectors, merge_topk
from xalign_dist.mining.plan import ASSUMED, IndexPlan, Speed, plan_index
from xalign_dist.records import Float32

Bounds = tuple[int, int]

ROWS = 1024
# Not a power of two: rows of a tile would else lie on the same lines of the cache when it is turned.
COLUMNS = 1040
TURNED_AT_ONCE = 256
SAMPLE = (ROWS, 2 * COLUMNS)
MEASURED_FROM = 2.0
"""Seconds of a search, as assumed, from which on they are measured: measuring takes a tenth of one."""


class LocalSearch:
    """Searches as a pool of shards does, without starting one: for what fits this machine's memory.

    FAISS would compute the product of both sides twice, once for each direction. Here it is computed
    once, tile by tile, and both directions take their best from it.
    """

    def __init__(self) -> None:
        self._speeds: dict[int, Speed] = {}

    def plan(self, rows: int, dim: int, queries: int) -> IndexPlan:
        """What one of the two directions will take: by a short measurement, where that is worth its time.

        Raises:
            ResourceError: it does not fit into this machine's memory, with the numbers.
        """
        assumed = Speed(0.0, ASSUMED["flat"].search / (2 * len(os.sched_getaffinity(0))))
        short = rows * queries * dim * assumed.search < MEASURED_FROM
        return plan_index(
            rows,
            dim,
            kind="flat",
            queries=queries,
            measure=lambda _, d: assumed if short else self._measure(d),
        )

    def _measure(self, dim: int) -> Speed:
        if dim not in self._speeds:
            rng = np.random.default_rng(0)
            query, base = (random_units(rng, rows, dim) for rows in SAMPLE)
            # The first product pays for threads and pages.
            self.both_ways(query[:64], base[:64], 1, [(0, 64)], lambda bounds, lists: None)
            start = time.perf_counter()
            self.both_ways(query, base, 1, [(0, len(query))], lambda bounds, lists: None)
            seconds = time.perf_counter() - start
            self._speeds[dim] = Speed(0.0, seconds / (2 * len(query) * len(base) * dim))
        return self._speeds[dim]

    def blocks(
        self, query_ND: Float32, base_MD: Float32, k: int, bounds: Sequence[Bounds]
    ) -> Iterator[tuple[Bounds, Neighbours]]:
        """Lists of the rows of each block of queries among the rows of ``base_MD``.

        Raises:
            DataError: an empty base, or vectors that are not unit.
        """
        index = build_index(base_MD, "flat")
        for start, stop in bounds:
            yield (start, stop), index.search(query_ND[start:stop], k)

    def both_ways(
        self,
        left_ND: Float32,
        right_MD: Float32,
        k: int,
        bounds: Sequence[Bounds],
        keep: Callable[[Bounds, Neighbours], None],
    ) -> Neighbours:
        """Lists of the left rows among the right ones, and of the right among the left.

        Args:
            left_ND: unit vectors.
            right_MD: unit vectors.
            k: neighbours.
            bounds: consecutive blocks that are all of the left rows.
            keep: is given the lists of each block of left rows as soon as they are complete.

        Returns:
            The lists of the right rows, ``[M, k]``.

        Raises:
            DataError: vectors that are not unit, or other dimensions.
        """
        left = check_vectors(left_ND, "query")
        right = check_vectors(right_MD, "base", left.shape[1])
        backward = BestColumns(len(right), min(k + TIE_SLACK, len(left)))
        cores = len(os.sched_getaffinity(0))
        # FAISS's own threads would wait for work by spinning, on the cores that the product needs.
        with ThreadPoolExecutor(cores, initializer=partial(set_threads, 1)) as pool:
            tile = _Tile(pool, cores)
            for start, stop in bounds:
                forward = BestColumns(stop - start, min(k + TIE_SLACK, len(right)))
                for row in range(start, stop, ROWS):
                    some = left[row : min(row + ROWS, stop)]
                    for column in range(0, len(right), COLUMNS):
                        tile.product(some, right[column : column + COLUMNS])
                        tile.collect(forward, row - start, backward, row, column)
                keep((start, stop), merge_topk([forward.take()], k))
        return merge_topk([backward.take()], k)


class _Tile:
    """Room for one tile and the same turned around, taken once: fresh pages cost more than the product.

    Args:
        pool: with ``cores`` threads.
        cores: among which the rows and columns of a tile are shared out.
    """

    def __init__(self, pool: Executor, cores: int) -> None:
        self._pool, self._cores = pool, cores
        self._room = [torch.empty(ROWS * COLUMNS) for _ in range(2)]

    def product(self, rows_RD: Float32, columns_CD: Float32) -> None:
        """Fill the tile with inner products ``[R, C]``."""
        shape = len(rows_RD), len(columns_CD)
        straight, turned = (room[: shape[0] * shape[1]] for room in self._room)
        out = straight.view(shape)
        torch.mm(torch.from_numpy(rows_RD), torch.from_numpy(columns_CD).T, out=out)
        self._straight: Float32 = out.numpy()
        self._turned: Float32 = turned.view(shape[::-1]).numpy()

    def collect(self, forward: BestColumns, at: int, backward: BestColumns, row: int, column: int) -> None:
        """Take the tile in, as it is at ``at`` and turned around for its columns."""

        def rows(start: int, stop: int) -> None:
            forward.add(self._straight[start:stop], at + start, column)

        def columns(start: int, stop: int) -> None:
            turned = self._turned[start:stop]
            for first in range(0, turned.shape[1], TURNED_AT_ONCE):
                part = slice(first, first + TURNED_AT_ONCE)
                turned[:, part] = self._straight[part, start:stop].T
            backward.add(turned, column + start, row)

        tasks = [
            self._pool.submit(work, *bounds)
            for work, count in ((rows, len(self._straight)), (columns, len(self._turned)))
            for bounds in pairwise(np.linspace(0, count, self._cores + 1).astype(int).tolist())
        ]
        deque((task.result() for task in tasks), maxlen=0)
