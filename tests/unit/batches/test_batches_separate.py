"""Setting texts apart: what may move, how far, and what is left when there is no room."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.batches.separate import Slots, separate


def _slots(src, batch_pairs, fixed=0, low=None, high=None):
    n = len(src)
    low = np.zeros(n, dtype=int) if low is None else np.asarray(low)
    high = np.full(n, n - 1) if high is None else np.asarray(high)
    return Slots(np.asarray(src), np.arange(n) + 1000, low, high, fixed, batch_pairs)


def _batches(src, at, size):
    moved = np.asarray(src)[at].tolist()
    return [moved[i : i + size] for i in range(0, len(moved), size)]


def test_nothing_moves_when_nothing_clashes():
    at, left = separate(_slots([1, 2, 3, 1, 2, 3], 3), np.random.default_rng(0))
    assert at.tolist() == [0, 1, 2, 3, 4, 5]
    assert left == 0


@pytest.mark.parametrize("seed", range(10))
def test_a_latin_square_is_found(seed):
    """Five batches of five, five texts in five rows each: every text must be in every batch."""
    src = np.random.default_rng(seed).permutation(np.repeat(np.arange(5), 5))
    at, left = separate(_slots(src, 5), np.random.default_rng(seed))
    assert left == 0
    assert sorted(at) == list(range(25))
    assert all(len(set(batch)) == 5 for batch in _batches(src, at, 5))


@pytest.mark.parametrize("seed", range(10))
def test_texts_shared_on_both_sides_are_set_apart(seed):
    """A 6 x 6 grid of (source, target) in batches of four: no row or column of the grid twice in one."""
    cells = np.random.default_rng(seed).permutation(36)
    src, tgt = cells // 6, 100 + cells % 6
    slots = Slots(src, tgt, np.zeros(36, dtype=int), np.full(36, 35), 0, 4)
    at, left = separate(slots, np.random.default_rng(seed))
    assert left == 0
    for start in range(0, 36, 4):
        rows = at[start : start + 4]
        assert len(set(src[rows])) == len(set(tgt[rows])) == 4


def _sides(*rows, fixed):
    src, tgt = (np.array(side) for side in zip(*rows, strict=True))
    return Slots(src, tgt, np.zeros(len(rows), dtype=int), np.full(len(rows), len(rows) - 1), fixed, 4)


@pytest.mark.parametrize("seed", range(10))
def test_a_row_changes_places_with_none_of_the_fixed(seed):
    at, left = separate(_slots([1, 2, 3, 4, 5, 5, 6, 7], 4, 3), np.random.default_rng(seed))
    assert at[:3].tolist() == [0, 1, 2]
    assert left == 0
    assert at[3] in (4, 5)


@pytest.mark.parametrize("seed", range(10))
def test_a_chain_that_ends_in_a_fixed_row_stays(seed):
    # Either row of text 5 could go to the first batch only if a fixed row left it.
    rows = [(1, 101), (2, 102), (3, 103), (4, 104), (5, 101), (5, 102), (6, 106), (7, 107)]
    at, left = separate(_sides(*rows, fixed=3), np.random.default_rng(seed))
    assert at[:3].tolist() == [0, 1, 2]
    assert left == 1


@pytest.mark.parametrize("seed", range(10))
def test_a_fixed_row_does_not_make_way(seed):
    # Text 1 is fixed in the first batch. The other row of text 1 cannot leave: the row it would have to
    # change places with shares text 200 with a fixed one.
    rows = [(1, 101), (2, 200), (3, 103), (1, 104), (104, 200), (6, 106), (7, 107), (8, 108)]
    at, left = separate(_sides(*rows, fixed=3), np.random.default_rng(seed))
    assert at[:3].tolist() == [0, 1, 2]
    assert left == 1


@pytest.mark.parametrize("seed", range(10))
def test_rows_stay_within_their_windows_where_that_suffices(seed):
    src = [0, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    low, high = [0] * 6 + [6] * 6, [5] * 6 + [11] * 6
    at, left = separate(_slots(src, 3, 0, low, high), np.random.default_rng(seed))
    assert left == 0
    assert sorted(at[:6]) == list(range(6))


def test_rows_leave_their_windows_rather_than_stay_together():
    src = [0, 0, 2, 3, 4, 5]
    at, left = separate(_slots(src, 3, 0, [0, 0, 0, 3, 3, 3], [2, 2, 2, 5, 5, 5]), np.random.default_rng(0))
    assert left == 0
    assert all(len(set(b)) == 3 for b in _batches(src, at, 3))


def test_what_cannot_be_apart_is_counted():
    src = [1, 1, 1, 2, 3, 4]
    at, left = separate(_slots(src, 3), np.random.default_rng(0))
    assert sorted(at) == list(range(6))
    assert left == 1
