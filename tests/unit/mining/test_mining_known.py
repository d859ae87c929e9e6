"""Lists on disk: new sentences cost only what is new, and the result is that of a search from scratch."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from xalign_dist.errors import DataError, OutputError
from xalign_dist.mining import MISSING, Neighbours, exact_knn
from xalign_dist.mining.known import Bounds, KnownLists, Rows

K = 5


class Search:
    """Exact search in this process that counts its comparisons, and fails when told to."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.compared, self.calls, self.fail_after = 0, 0, fail_after

    def blocks(
        self, query_ND: np.ndarray, base_MD: np.ndarray, k: int, bounds: Sequence[Bounds]
    ) -> Iterator[tuple[Bounds, Neighbours]]:
        for start, stop in bounds:
            if self.calls == self.fail_after:
                raise KeyboardInterrupt
            self.calls += 1
            self.compared += (stop - start) * len(base_MD)
            yield (start, stop), exact_knn(query_ND[start:stop], base_MD, k)


class Both(Search):
    """The same for both directions at once."""

    def both_ways(
        self,
        left_ND: np.ndarray,
        right_MD: np.ndarray,
        k: int,
        bounds: Sequence[Bounds],
        keep: Callable[[Bounds, Neighbours], None],
    ) -> Neighbours:
        for at, lists in self.blocks(left_ND, right_MD, k, bounds):
            keep(at, lists)
        return exact_knn(right_MD, left_ND, k)


def rows(count: int, seed: int, first: int = 0) -> Rows:
    vectors = np.random.default_rng(seed).normal(size=(count + first, 12)).astype(np.float32)[first:]
    keys = np.arange(first, first + count, dtype=np.int64) * 7919 + seed
    return Rows(keys, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def joined(*parts: Rows) -> Rows:
    return Rows(np.concatenate([p.keys for p in parts]), np.concatenate([p.vectors for p in parts]))


def scratch(source: Rows, target: Rows) -> tuple[Neighbours, Neighbours]:
    return exact_knn(source.vectors, target.vectors, K), exact_knn(target.vectors, source.vectors, K)


def same(found: tuple[Neighbours, Neighbours], expected: tuple[Neighbours, Neighbours]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours[1], theirs[1])
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-6)


def test_nothing_is_searched_twice(tmp_path: Path) -> None:
    source, target, search = rows(30, 1), rows(40, 2), Search()
    first = KnownLists(tmp_path, K).both(search, source, target)
    assert search.compared == 2 * 30 * 40
    again = KnownLists(tmp_path, K).both(search, source, target)
    assert search.compared == 2 * 30 * 40
    same(first, scratch(source, target))
    same(again, first)


def test_both_directions_at_once_are_kept_and_grow(tmp_path: Path) -> None:
    source, target, search = rows(30, 1), rows(40, 2), Both()
    lists = KnownLists(tmp_path, K)
    same(lists.both(search, source, target), scratch(source, target))
    assert search.compared == 30 * 40
    grown = joined(source, rows(3, 1, first=30)), joined(target, rows(4, 2, first=40))
    same(lists.both(search, *grown), scratch(*grown))
    assert search.compared == 30 * 40 + 30 * 4 + 3 * 40 + 3 * 4
    same(lists.both(Search(fail_after=0), *grown), scratch(*grown))


def test_a_kill_amid_both_directions_leaves_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "xalign_dist.mining.known.block_bounds", lambda n: [(a, a + 10) for a in range(0, n, 10)]
    )
    source, target = rows(30, 1), rows(40, 2)
    with pytest.raises(KeyboardInterrupt):
        KnownLists(tmp_path, K).both(Both(fail_after=2), source, target)
    search = Both()
    same(KnownLists(tmp_path, K).both(search, source, target), scratch(source, target))
    assert search.calls == 1 + 4


@pytest.mark.parametrize("in_front", [False, True])
def test_new_sentences_cost_what_is_new_and_give_what_scratch_gives(tmp_path: Path, in_front: bool) -> None:
    source, target = rows(30, 1), rows(40, 2)
    KnownLists(tmp_path, K).both(Search(), source, target)
    more_source, more_target = rows(3, 1, first=30), rows(4, 2, first=40)
    order = -1 if in_front else 1
    grown = joined(*(source, more_source)[::order]), joined(*(target, more_target)[::order])
    search = Search()
    same(KnownLists(tmp_path, K).both(search, *grown), scratch(*grown))
    assert search.compared == 2 * (30 * 4 + 3 * 40 + 3 * 4)


def test_a_side_smaller_than_k_is_filled_up_by_what_comes(tmp_path: Path) -> None:
    source, target = rows(6, 1), rows(2, 2)
    (_, ids), _ = KnownLists(tmp_path, K).both(Search(), source, target)
    assert (ids[:, 2:] == MISSING).all()
    grown = joined(target, rows(9, 2, first=2))
    same(KnownLists(tmp_path, K).both(Search(), source, grown), scratch(source, grown))


def test_a_generation_that_lost_a_sentence_is_searched_again(tmp_path: Path) -> None:
    source, target = rows(30, 1), rows(40, 2)
    lists = KnownLists(tmp_path, K)
    lists.both(Search(), source, target)
    lists.both(Search(), source, joined(target, rows(5, 2, first=40)))
    less = joined(Rows(target.keys[1:], target.vectors[1:]), rows(5, 2, first=40))
    search = Search()
    same(lists.both(search, source, less), scratch(source, less))
    assert search.compared == 2 * 30 * 39
    assert lists.both(Search(fail_after=0), source, less)


def test_another_order_and_another_k(tmp_path: Path) -> None:
    source, target = rows(30, 1), rows(40, 2)
    KnownLists(tmp_path, K).both(Search(), source, target)
    mixed = np.random.default_rng(0).permutation(40)
    other = Rows(target.keys[mixed], target.vectors[mixed])
    same(KnownLists(tmp_path, K).both(Search(fail_after=0), source, other), scratch(source, other))
    search = Search()
    KnownLists(tmp_path, 3).both(search, source, target)
    assert search.compared == 2 * 30 * 40


def test_what_was_finished_before_a_kill_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "xalign_dist.mining.known.block_bounds", lambda n: [(a, a + 10) for a in range(0, n, 10)]
    )
    source, target = rows(30, 1), rows(40, 2)
    with pytest.raises(KeyboardInterrupt):
        KnownLists(tmp_path, K).both(Search(fail_after=5), source, target)
    search = Search()
    same(KnownLists(tmp_path, K).both(search, source, target), scratch(source, target))
    assert search.calls == 7 - 5


def test_a_damaged_block_is_searched_again(tmp_path: Path) -> None:
    source, target = rows(30, 1), rows(40, 2)
    KnownLists(tmp_path, K).both(Search(), source, target)
    block = next(tmp_path.rglob("source-*.npz"))
    block.write_bytes(block.read_bytes()[:50])
    search = Search()
    same(KnownLists(tmp_path, K).both(search, source, target), scratch(source, target))
    assert search.compared == 30 * 40
    next(tmp_path.rglob("target-*.npy")).write_bytes(b"")
    same(KnownLists(tmp_path, K).both(Search(), source, target), scratch(source, target))


def test_repeated_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="target: repeated texts"):
        KnownLists(tmp_path, K).both(Search(), rows(3, 1), joined(rows(3, 2), rows(2, 2)))


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    source, target, search = rows(30, 1), rows(400, 2), Search()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The lists of 30 sources fit, those of 400 targets do not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"(?s)cannot be written \(File too large\).*finished stays"):
            KnownLists(tmp_path, K).both(search, source, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.rglob("*.writing"))
    search.compared = 0
    same(KnownLists(tmp_path, K).both(search, source, target), scratch(source, target))
    assert search.compared == 400 * 30
