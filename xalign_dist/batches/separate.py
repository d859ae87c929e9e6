"""Setting equal texts apart: rows change places between batches until no batch holds a text twice."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from xalign_dist.records import Int64

_DRAWS = 48
_PASSES = 4
# Slots looked at while exchanging chains, in one epoch: about two seconds at most on hopeless data.
_CHAIN_BUDGET = 2_000_000
_CHAIN_BUDGET_PER_ROW = 200


@dataclass(frozen=True, slots=True)
class Slots:
    """S rows in reading order; the batch of slot s is s // batch_pairs.

    Attributes:
        src_S, tgt_S: text ids of the row that starts in each slot, from 0 up.
        low_S, high_S: first and last slot that row may move to.
        fixed: the first slots, already read by the epoch before, that stay.
        batch_pairs: slots a batch; the last batch may be short.
    """

    src_S: Int64
    tgt_S: Int64
    low_S: Int64
    high_S: Int64
    fixed: int
    batch_pairs: int


def separate(slots: Slots, rng: np.random.Generator) -> tuple[Int64, int]:
    """Rearrange ``slots`` so that no text is twice in a batch, moving as few rows as it can.

    A row whose text its batch holds already changes places with a random row where both fit; where
    none is found, chains of rows between two batches change sides (Kempe's argument for edge
    colourings: texts are vertices, pairs are edges, batches are colours). Rows that find no place
    within ``low_S`` and ``high_S`` may go beyond.

    Returns:
        ``at_S``: which row is in each slot now, and how many rows are left that share a text with
        an earlier row of their batch (only where a text is in about as many rows as there are batches).
    """
    work = _Separator(slots, rng)
    if work.mend_all():
        work.unbind()
        work.mend_all()
    return work.at_S, len(work.clashing())


class _Separator:
    """The state of one :func:`separate` call.

    Text counts a batch are looked up in a sorted array and corrected by a small dict of the moves
    made so far: few rows clash (about B * m / 2 an epoch when texts are in m rows), so that a dict of
    all texts would cost far more than the mending.
    """

    def __init__(self, slots: Slots, rng: np.random.Generator) -> None:
        self._src_S, self._tgt_S = slots.src_S, slots.tgt_S
        self._low_S, self._high_S = slots.low_S, slots.high_S
        self._fixed, self._batch_pairs, self._rng = slots.fixed, slots.batch_pairs, rng
        self.at_S: Int64 = np.arange(len(slots.src_S), dtype=np.int64)
        self._budget = min(_CHAIN_BUDGET, _CHAIN_BUDGET_PER_ROW * len(slots.src_S))
        other_S = slots.src_S != slots.tgt_S
        uses = np.bincount(slots.src_S) if len(slots.src_S) else np.zeros(0, dtype=np.int64)
        more = np.bincount(slots.tgt_S[other_S], minlength=len(uses))
        more[: len(uses)] += uses
        self._uses = more
        # Only a text that is used twice can clash, so all others are left out of the look-up.
        self._shared_src_S = self._uses[slots.src_S] > 1
        self._shared_tgt_S = other_S & (self._uses[slots.tgt_S] > 1)
        self._codes = np.sort(self._entries()[0])
        self._moved: dict[int, int] = {}

    def clashing(self) -> list[int]:
        """Slots whose row has a text that an earlier slot of the batch has, the rarest texts first."""
        codes, slots = self._entries()
        ordered = np.sort(codes)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if not twice.size:
            return []
        place = np.minimum(np.searchsorted(twice, codes), len(twice) - 1)
        hit = twice[place] == codes
        codes, slots = codes[hit], slots[hit]
        order = np.lexsort((slots, codes))
        codes, slots = codes[order], slots[order]
        later = np.concatenate([[False], codes[1:] == codes[:-1]])
        uses = self._uses[codes[later] % len(self._uses)]
        return list(dict.fromkeys(slots[later][np.argsort(uses, kind="stable")].tolist()))

    def mend_all(self) -> bool:
        """Mend every clashing slot; whether some are stuck."""
        todo = self.clashing()
        for _ in range(_PASSES):
            if sum(not self._mend(slot) for slot in todo) == 0:
                return False
            # What is stuck may find a place now that the others have moved.
            before, todo = len(todo), self.clashing()
            if len(todo) == before:
                break
        return bool(todo)

    def unbind(self) -> None:
        """Let every row move anywhere but into the fixed slots."""
        self._low_S = np.zeros_like(self._low_S)
        self._high_S = np.full_like(self._high_S, len(self.at_S) - 1)

    def _mend(self, slot: int) -> bool:
        """Move the row in ``slot``, or else those it clashes with, until nothing clashes; False if stuck."""
        while self._clashes(slot):
            if not (self._leaves(slot) or any(map(self._leaves, self._mates(slot)[:2]))):
                return False
        return True

    def _leaves(self, slot: int) -> bool:
        return slot >= self._fixed and (self._swap(slot) or self._exchange(slot))

    def _clashes(self, slot: int) -> bool:
        batch = slot // self._batch_pairs
        return any(self._count(batch, text) > 1 for text in self._texts(slot))

    def _entries(self) -> tuple[Int64, Int64]:
        """Codes batch * texts + text of all texts used twice or more, and their slots."""
        src_at = np.flatnonzero(self._shared_src_S[self.at_S])
        tgt_at = np.flatnonzero(self._shared_tgt_S[self.at_S])
        slots = np.concatenate([src_at, tgt_at])
        texts = np.concatenate([self._src_S[self.at_S[src_at]], self._tgt_S[self.at_S[tgt_at]]])
        return slots // self._batch_pairs * len(self._uses) + texts, slots

    def _texts(self, slot: int) -> set[int]:
        row = self.at_S[slot]
        return {int(self._src_S[row]), int(self._tgt_S[row])}

    def _texts_of(self, slots: range) -> dict[int, tuple[int, int]]:
        rows = self.at_S[slots.start : slots.stop]
        both = zip(self._src_S[rows].tolist(), self._tgt_S[rows].tolist(), strict=True)
        return dict(zip(slots, both, strict=True))

    def _count(self, batch: int, text: int) -> int:
        code = batch * len(self._uses) + text
        return bisect_right(self._codes, code) - bisect_left(self._codes, code) + self._moved.get(code, 0)

    def _free(self, batch: int, texts: set[int], leaving: set[int]) -> bool:
        return all(self._count(batch, text) <= (text in leaving) for text in texts)

    def _mates(self, slot: int) -> list[int]:
        here = self._slots_of(slot // self._batch_pairs)
        rows = self.at_S[here.start : here.stop]
        texts = list(self._texts(slot))
        alike = np.isin(self._src_S[rows], texts) | np.isin(self._tgt_S[rows], texts)
        return [s for s in (np.flatnonzero(alike) + here.start).tolist() if s != slot]

    def _slots_of(self, batch: int) -> range:
        start = batch * self._batch_pairs
        return range(start, min(start + self._batch_pairs, len(self.at_S)))

    def _trade(self, one: int, other: int) -> None:
        for slot, goes in ((one, other), (other, one)):
            for text in self._texts(slot):
                for batch, change in ((slot // self._batch_pairs, -1), (goes // self._batch_pairs, 1)):
                    code = batch * len(self._uses) + text
                    self._moved[code] = self._moved.get(code, 0) + change
        self.at_S[one], self.at_S[other] = self.at_S[other], self.at_S[one]

    def _may_move(self, slot: int, goes: int) -> bool:
        row = self.at_S[slot]
        return bool(self._low_S[row] <= goes <= self._high_S[row])

    def _swap(self, slot: int) -> bool:
        row, batch, texts = self.at_S[slot], slot // self._batch_pairs, self._texts(slot)
        low, high = max(int(self._low_S[row]), self._fixed), int(self._high_S[row])
        if low > high:
            return False
        for other in self._rng.integers(low, high + 1, _DRAWS).tolist():
            there = other // self._batch_pairs
            if there == batch or not self._may_move(other, slot):
                continue
            leaving = self._texts(other)
            if self._free(there, texts, leaving) and self._free(batch, leaving, texts):
                self._trade(slot, other)
                return True
        return False

    def _exchange(self, slot: int) -> bool:
        row, batch = self.at_S[slot], slot // self._batch_pairs
        reach = np.arange(self._low_S[row] // self._batch_pairs, self._high_S[row] // self._batch_pairs + 1)
        for there in self._rng.permutation(reach).tolist():
            if self._budget <= 0:
                return False
            if there != batch and self._exchange_with(slot, batch, there):
                return True
        return False

    def _exchange_with(self, slot: int, batch: int, there: int) -> bool:
        here, across = self._slots_of(batch), self._slots_of(there)
        self._budget -= len(here) + len(across)
        chains = _Chains(self._texts_of(here), self._texts_of(across), self._fixed)
        chain = chains.of(slot)
        mates = set(self._mates(slot))
        if not chains.movable(chain) or chain & mates:
            return False
        surplus = chains.surplus(chain)
        if surplus:
            partner = chains.partner(-surplus, chain | mates)
            if partner is None:
                return False
            chain = chain | partner
        trades = list(zip(sorted(chain & set(here)), sorted(chain & set(across)), strict=True))
        if not all(self._may_move(a, b) and self._may_move(b, a) for a, b in trades):
            return False
        for a, b in trades:
            self._trade(a, b)
        return True


class _Chains:
    """Rows of two batches, joined where a row of one shares a text with a row of the other."""

    def __init__(
        self, here: dict[int, tuple[int, int]], across: dict[int, tuple[int, int]], fixed: int
    ) -> None:
        self._texts = here | across
        self._here, self._fixed = here, fixed
        self._owners: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
        for owners, rows in zip(self._owners, (here, across), strict=True):
            for slot, texts in rows.items():
                for text in set(texts):
                    owners.setdefault(text, []).append(slot)

    def of(self, slot: int) -> set[int]:
        """The slots joined to ``slot``, itself among them."""
        found, todo = {slot}, [slot]
        while todo:
            at = todo.pop()
            owners = self._owners[at in self._here]
            for text in self._texts[at]:
                for other in owners.get(text, ()):
                    if other not in found:
                        found.add(other)
                        todo.append(other)
        return found

    def movable(self, chain: Iterable[int]) -> bool:
        """Whether no slot of the chain belongs to the epoch before."""
        return all(slot >= self._fixed for slot in chain)

    def surplus(self, chain: set[int]) -> int:
        """Slots of the chain in the first batch minus those in the second."""
        return sum(1 if slot in self._here else -1 for slot in chain)

    def partner(self, surplus: int, taken: set[int]) -> set[int] | None:
        """The first movable chain with that surplus that has no slot in ``taken``."""
        seen = set(taken)
        for slot in self._texts:
            if slot in seen:
                continue
            chain = self.of(slot)
            seen |= chain
            if self.surplus(chain) == surplus and self.movable(chain) and not chain & taken:
                return chain
        return None
