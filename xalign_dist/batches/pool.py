"""One endless stream of rows, shuffled anew each epoch, cut into batches of one size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xalign_dist.batches.separate import Slots, separate
from xalign_dist.records import Int64

_PERMUTATION, _JITTER, _REPAIR = 1, 2, 3


class _Epoch(NamedTuple):
    rows_N: Int64
    duplicates: int


class Pool:
    """Language pairs (groups) of rows, of which each epoch reads ``quota_G`` rows a group.

    The k-th row that group g gives in an epoch is due at the time (k + u) / quota_g, u uniform in
    [0, 1): every stretch of the epoch holds each group's share, give or take two rows. Across
    epochs a group runs through one permutation of its rows after another. Texts that meet in a
    batch are then set apart (:func:`~xalign_dist.batches.separate.separate`).
    """

    def __init__(
        self,
        members: list[Int64],
        quota_G: Int64,
        src_N: Int64,
        tgt_N: Int64,
        batch_pairs: int,
        seed: tuple[int, ...],
    ) -> None:
        """``src_N`` and ``tgt_N`` are text ids from 0 up over the whole set, which ``members`` index."""
        self.duplicates_left = 0
        self._members, self._quota_G = members, quota_G
        self._src_N, self._tgt_N = src_N, tgt_N
        self._batch_pairs, self._seed = batch_pairs, seed
        self._size = int(quota_G.sum())
        self._planned: dict[int, _Epoch] = {}
        self._counted = -1

    def batch(self, index: int) -> Int64:
        """The rows of the stream's batch ``index``, int64 ``[B]``."""
        start, parts = index * self._batch_pairs, []
        stop = start + self._batch_pairs
        while start < stop:
            epoch, at = divmod(start, self._size)
            part = self._epoch(epoch).rows_N[at : at + stop - start]
            parts.append(part)
            start += len(part)
        return np.concatenate(parts)

    def _epoch(self, epoch: int) -> _Epoch:
        if epoch not in self._planned:
            first = epoch
            # The texts of a batch that epochs share depend on the epoch before: plan from the last
            # epoch that is at hand, or that starts on a batch boundary.
            while first * self._size % self._batch_pairs and first - 1 not in self._planned:
                first -= 1
            for number in range(first, epoch + 1):
                self._keep(number, self._plan(number))
        return self._planned[epoch]

    def _keep(self, number: int, planned: _Epoch) -> None:
        self._planned[number] = planned
        for old in [n for n in self._planned if not number - 1 <= n <= number]:
            del self._planned[old]
        if number > self._counted:
            self._counted = number
            self.duplicates_left += planned.duplicates

    def _plan(self, epoch: int) -> _Epoch:
        begun = epoch * self._size % self._batch_pairs
        before = self._planned[epoch - 1].rows_N[-begun:] if begun else np.zeros(0, dtype=np.int64)
        rows_N, low_N, high_N = self._draw(epoch)
        rows_S = np.concatenate([before, rows_N])
        slots = Slots(
            src_S=self._src_N[rows_S],
            tgt_S=self._tgt_N[rows_S],
            low_S=np.concatenate([np.arange(begun), low_N + begun]),
            high_S=np.concatenate([np.arange(begun), high_N + begun]),
            fixed=begun,
            batch_pairs=self._batch_pairs,
        )
        at_S, duplicates = separate(slots, np.random.default_rng([*self._seed, _REPAIR, epoch]))
        return _Epoch(rows_S[at_S][begun:], duplicates)

    def _draw(self, epoch: int) -> tuple[Int64, Int64, Int64]:
        """Rows in order of their due time, and the first and last slot each may move to."""
        rows, due, passes = [], [], []
        for g, (members, quota) in enumerate(zip(self._members, self._quota_G.tolist(), strict=True)):
            start = epoch * quota
            first, last = start // len(members), (start + quota - 1) // len(members)
            for number in range(first, last + 1):
                low = max(start - number * len(members), 0)
                high = min(start + quota - number * len(members), len(members))
                rng = np.random.default_rng([*self._seed, _PERMUTATION, g, number])
                rows.append(rng.permutation(members)[low:high])
                passes.append(high - low)
            rng = np.random.default_rng([*self._seed, _JITTER, g, epoch])
            due.append((np.arange(quota) + rng.random(quota)) / max(quota, 1))
        order_N = np.argsort(np.concatenate(due), kind="stable")
        low_N, high_N = self._windows(order_N, np.array(passes, dtype=np.int64))
        return np.concatenate(rows)[order_N], low_N[order_N], high_N[order_N]

    def _windows(self, order_N: Int64, passes_P: Int64) -> tuple[Int64, Int64]:
        """Slots between which a drawn row may move without overtaking its group's next or last round.

        Neighbouring rounds of a group meet half-way between the last row of one and the first of
        the other; the first and the last round of the epoch reach to its ends.
        """
        slot_N = np.empty(self._size, dtype=np.int64)
        slot_N[order_N] = np.arange(self._size)
        ends_P = np.cumsum(passes_P)
        first_P, last_P = slot_N[ends_P - passes_P], slot_N[ends_P - 1]
        cut_P = (last_P[:-1] + first_P[1:]) // 2
        same_P = np.isin(ends_P[:-1], np.cumsum(self._quota_G), invert=True)
        low_P = np.concatenate([[0], np.where(same_P, cut_P + 1, 0)])
        high_P = np.concatenate([np.where(same_P, cut_P, self._size - 1), [self._size - 1]])
        return np.repeat(low_P, passes_P), np.repeat(high_P, passes_P)
