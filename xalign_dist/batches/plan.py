"""Which rows make up the batch of a step: a pure function of (seed, step), the same for any world size."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from xalign_dist.batches.pool import Pool
from xalign_dist.errors import ConfigError, DataError
from xalign_dist.pairs.mixture import apportion, sampling_shares
from xalign_dist.records import Int64

_log = logging.getLogger(__name__)
_SCHEDULE = 7  # keeps the schedule's random stream apart from the pools'


class BatchPlan:
    """Batches of exactly B pairs for every step from 0 on.

    Mixed batches (default). The rows are read as one endless stream that is cut every B pairs, so a
    batch may hold the end of one epoch and the start of the next: the batch size never changes and
    nothing is dropped. An epoch is N pairs of the stream.

    - ``sampling_temperature`` 1: an epoch is every row exactly once.
    - Above 1: an epoch holds each language pair in proportion to size ** (1/T), in whole pairs (no row
      more often than in half of the batches). Within a language pair rows go round: none is read for
      the k+1st time before all were read k times, but for rows that found no other place because of
      the next rule.
    - Each language pair is spread evenly over the epoch.
    - No text is twice in a batch, as source or target: a pair that would bring one changes places with
      a pair of another batch. Where that cannot be, because a text is in more pairs than the epoch has
      batches, the rest stays, is logged and counted in :attr:`duplicates_left` (the objective masks it).

    Homogeneous batches. Each batch is one language pair, a stream of its own as above (in which every
    row is read once before any is read again); language pairs take turns by their share, in whole
    batches, at least one an epoch.

    An epoch is planned when its first batch is asked for, O(N log N), and kept until the next one
    is; its batches are slices. Resuming at a step plans at most B / gcd(N, B) epochs, and one for
    epochs that start on a batch boundary.
    """

    def __init__(
        self,
        group_N: Int64,
        src_key_N: Int64,
        tgt_key_N: Int64,
        batch_pairs: int,
        seed: int,
        sampling_temperature: float = 1.0,
        homogeneous: bool = False,
        group_names: Sequence[str] | None = None,
    ) -> None:
        """Plan over N rows.

        Args:
            group_N: language pair of each row, any ids from 0 up.
            src_key_N: key of each source text (:func:`~xalign_dist.records.text_keys`).
            tgt_key_N: key of each target text.
            batch_pairs: B, over all ranks.
            seed: of every shuffle, from 0 up.
            sampling_temperature: T, at least 1.
            homogeneous: one language pair a batch.
            group_names: names of the ids in ``group_N``, for messages. None: the ids.

        Raises:
            DataError: fewer rows or fewer distinct texts than a batch holds (homogeneous: in any
                one language pair).
        """
        self.batch_pairs = batch_pairs
        self.rows = len(group_N)
        self._seed = seed
        groups, group_N = np.unique(group_N, return_inverse=True)
        _, ids = np.unique(np.concatenate([src_key_N, tgt_key_N]), return_inverse=True)
        src_N, tgt_N = ids[: self.rows].astype(np.int64), ids[self.rows :].astype(np.int64)
        members = _members(group_N, len(groups))
        sizes_G = np.array([len(m) for m in members], dtype=np.int64)
        if homogeneous:
            for group, rows in zip(groups.tolist(), members, strict=True):
                name = group_names[group] if group_names else group
                _check_fits(rows, src_N, tgt_N, batch_pairs, f"language pair {name}: ")
            self._pools = [
                Pool([rows], sizes_G[g : g + 1], src_N, tgt_N, batch_pairs, (seed, g))
                for g, rows in enumerate(members)
            ]
            shares_G = sampling_shares(sizes_G, sampling_temperature)
            self._turns_G = np.maximum(1, np.round(shares_G * self.rows / batch_pairs)).astype(np.int64)
        else:
            _check_fits(np.arange(self.rows), src_N, tgt_N, batch_pairs, "")
            quota_G = _quotas(members, sizes_G, src_N, tgt_N, batch_pairs, sampling_temperature)
            self._pools = [Pool(members, quota_G, src_N, tgt_N, batch_pairs, (seed,))]
            self._turns_G = np.zeros(0, dtype=np.int64)
        self._schedule: tuple[int, Int64, Int64] | None = None
        self._homogeneous = homogeneous
        self._warned = False

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch; a mixed epoch whose rows are no multiple of B has this many or one fewer."""
        if self._homogeneous:
            return int(self._turns_G.sum())
        return -(-self.rows // self.batch_pairs)

    @property
    def duplicates_left(self) -> int:
        """Pairs, over the epochs planned so far, whose text is in their batch already."""
        return sum(pool.duplicates_left for pool in self._pools)

    def position(self, step: int) -> tuple[int, int]:
        """``(epoch, step in epoch)``: of the step's first pair; the steps begun in the epoch before."""
        if self._homogeneous:
            return divmod(step, self.steps_per_epoch)
        epoch = step * self.batch_pairs // self.rows
        return epoch, step - -(-epoch * self.rows // self.batch_pairs)

    def batch(self, step: int) -> Int64:
        """Rows of the global batch of ``step``, int64 ``[B]``, in an order that is part of the plan."""
        if not self._homogeneous:
            rows_B = self._pools[0].batch(step)
        else:
            epoch, at = self.position(step)
            group_S, turn_S = self._schedule_of(epoch)
            rows_B = self._pools[group_S[at]].batch(int(turn_S[at]))
        if self.duplicates_left and not self._warned:
            self._warned = True
            _log.warning(
                "%d pairs share a text with another pair of their batch: the text is in about as many "
                "pairs as an epoch has batches, or more; lower training.batch_pairs to avoid it",
                self.duplicates_left,
            )
        return rows_B

    def _schedule_of(self, epoch: int) -> tuple[Int64, Int64]:
        if self._schedule is None or self._schedule[0] != epoch:
            rng = np.random.default_rng([self._seed, _SCHEDULE, epoch])
            group_S = np.repeat(np.arange(len(self._turns_G)), self._turns_G)
            first_S = np.repeat(np.cumsum(self._turns_G) - self._turns_G, self._turns_G)
            nth_S = np.arange(len(group_S)) - first_S
            due_S = (nth_S + rng.random(len(group_S))) / self._turns_G[group_S]
            order_S = np.argsort(due_S, kind="stable")
            turn_S = epoch * self._turns_G[group_S] + nth_S
            self._schedule = (epoch, group_S[order_S], turn_S[order_S])
        return self._schedule[1], self._schedule[2]


def rank_rows(rows_B: Int64, rank: int, world_size: int, tokens_B: Int64) -> Int64:
    """The share of ``rows_B`` that ``rank`` reads; shares differ by one row at most, and little in tokens.

    A step takes as long as its slowest rank, so the pairs are dealt longest first, back and forth
    (0 1 2 2 1 0 0 1 ...). The loss is of the global batch, in whatever order its rows lie.

    Args:
        rows_B: the global batch.
        rank, world_size: whose share.
        tokens_B: length of each pair, both texts together.

    Raises:
        ConfigError: fewer rows than ranks.
    """
    if len(rows_B) < world_size:
        raise ConfigError(
            f"training.batch_pairs: {len(rows_B)} pairs cannot be shared by {world_size} workers",
            "raise training.batch_pairs or lower runtime.train_workers",
        )
    longest_first_B = np.argsort(-tokens_B, kind="stable")
    turn_B, place_B = np.divmod(np.arange(len(rows_B)), world_size)
    owner_B = np.where(turn_B % 2 == 0, place_B, world_size - 1 - place_B)
    mine: Int64 = rows_B[np.sort(longest_first_B[owner_B == rank])]
    return mine


def _members(group_N: Int64, groups: int) -> list[Int64]:
    order_N = np.argsort(group_N, kind="stable").astype(np.int64)
    ends_G = np.cumsum(np.bincount(group_N, minlength=groups))
    return np.split(order_N, ends_G[:-1])


def _quotas(
    members: list[Int64],
    sizes_G: Int64,
    src_N: Int64,
    tgt_N: Int64,
    batch_pairs: int,
    temperature: float,
) -> Int64:
    rows = int(sizes_G.sum())
    if temperature == 1:
        return sizes_G
    # A row in more than half of the batches would leave its repeats no room to keep apart.
    distinct_G = np.array([_distinct(m, src_N, tgt_N) for m in members], dtype=np.int64)
    caps_G = np.maximum(sizes_G, distinct_G * rows // (2 * batch_pairs))
    return apportion(sampling_shares(sizes_G, temperature), rows, caps_G)


def _distinct(rows: Int64, src_N: Int64, tgt_N: Int64) -> int:
    return min(len(np.unique(src_N[rows])), len(np.unique(tgt_N[rows])))


def _check_fits(rows: Int64, src_N: Int64, tgt_N: Int64, batch_pairs: int, where: str) -> None:
    texts = _distinct(rows, src_N, tgt_N)
    if texts < batch_pairs:
        raise DataError(
            f"{where}the batch is larger than the data: training.batch_pairs is {batch_pairs}, but "
            f"{len(rows)} pairs have only {texts} distinct texts on one side",
            f"lower training.batch_pairs to {max(texts, 2)} or less"
            + (", or set training.homogeneous_batches=false" if where else ", or add data"),
        )
