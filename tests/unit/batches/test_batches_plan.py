"""The plan of batches against brute force: every promise of BatchPlan, on many random data sets."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pytest

from xalign_dist.batches import BatchPlan, rank_rows
from xalign_dist.errors import ConfigError, DataError


def _data(rows: int, groups: int, copies: int, seed: int = 0):
    """Rows in ``groups`` language pairs of uneven size; each source text is in ``copies`` rows."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(groups, 1.0))
    group = np.concatenate([np.arange(groups), rng.choice(groups, rows - groups, p=share)])
    src = rng.permutation(rows) // copies
    return group, src * 3 + 1, np.arange(rows) * 3


def _repeats(rows, src, tgt) -> int:
    """Rows of a batch that share a text, on either side, with an earlier one (slow and plain)."""
    seen: set[int] = set()
    found = 0
    for r in rows.tolist():
        texts = {int(src[r]), int(tgt[r])}
        found += bool(texts & seen)
        seen |= texts
    return found


def _stream(plan: BatchPlan, steps: int):
    return np.concatenate([plan.batch(step) for step in range(steps)])


CASES = [
    # rows, groups, copies of a text, batch
    (64, 1, 1, 64),
    (65, 3, 1, 64),
    (127, 3, 1, 64),
    (1000, 5, 1, 32),
    (1000, 5, 10, 32),
    (96, 6, 6, 16),  # tight: each text must be in every batch
    (103, 6, 6, 16),
    (501, 14, 7, 50),
]


@pytest.mark.parametrize(("rows", "groups", "copies", "batch"), CASES)
def test_every_row_once_an_epoch_and_no_text_twice_a_batch(rows, groups, copies, batch):
    group, src, tgt = _data(rows, groups, copies)
    plan = BatchPlan(group, src, tgt, batch, seed=3)
    steps = -(-5 * rows // batch)
    batches = [plan.batch(step) for step in range(steps)]
    assert {len(b) for b in batches} == {batch}
    stream = np.concatenate(batches)
    for epoch in range(5):
        assert sorted(stream[epoch * rows : (epoch + 1) * rows]) == list(range(rows))
    assert sum(_repeats(b, src, tgt) for b in batches) == 0
    assert plan.duplicates_left == 0


@pytest.mark.parametrize("seed", range(12))
def test_random_data_sets_keep_the_promises(seed):
    rng = np.random.default_rng(seed)
    batch = int(rng.integers(2, 40))
    rows = int(rng.integers(batch, 12 * batch))
    groups = int(rng.integers(1, min(8, rows) + 1))
    copies = max(1, int(rng.integers(1, rows // batch + 1)) // 2)
    group, src, tgt = _data(rows, groups, copies, seed)
    plan = BatchPlan(group, src, tgt, batch, seed=seed)
    stream = _stream(plan, -(-3 * rows // batch))
    for epoch in range(3):
        assert sorted(stream[epoch * rows : (epoch + 1) * rows]) == list(range(rows))
    for start in range(0, len(stream), batch):
        assert _repeats(stream[start : start + batch], src, tgt) == 0


def test_a_source_that_is_another_rows_target_counts_as_the_same_text():
    rows = 200
    src, tgt = np.arange(rows), (np.arange(rows) + 1) % rows
    plan = BatchPlan(np.zeros(rows, dtype=int), src, tgt, 40, seed=0)
    assert sum(_repeats(plan.batch(step), src, tgt) for step in range(15)) == 0


def test_a_row_whose_two_sides_are_equal_is_no_duplicate_of_itself():
    keys = np.arange(64)
    plan = BatchPlan(np.zeros(64, dtype=int), keys, keys, 64, seed=0)
    assert sorted(plan.batch(0)) == list(range(64))
    assert plan.duplicates_left == 0


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("homogeneous", [False, True])
def test_a_batch_depends_on_seed_and_step_alone(temperature, homogeneous):
    group, src, tgt = _data(400, 2, 4, seed=1)
    make = lambda seed: BatchPlan(group, src, tgt, 24, seed, temperature, homogeneous)  # noqa: E731
    forward = make(5)
    expected = [forward.batch(step).tolist() for step in range(80)]
    for step in (79, 3, 40, 41, 17, 16, 0):
        assert make(5).batch(step).tolist() == expected[step]
    backward = make(5)
    assert [backward.batch(step).tolist() for step in reversed(range(80))] == expected[::-1]
    assert make(6).batch(0).tolist() != expected[0]


def test_epochs_are_shuffled_anew():
    group, src, tgt = _data(128, 1, 1)
    plan = BatchPlan(group, src, tgt, 64, seed=0)
    assert plan.batch(0).tolist() != plan.batch(2).tolist()


def test_language_pairs_are_spread_evenly_over_the_epoch():
    group = np.repeat([0, 1, 2], [600, 300, 100])
    plan = BatchPlan(group, np.arange(1000), np.arange(1000, 2000), 100, seed=0)
    for step in range(10):
        count = np.bincount(group[plan.batch(step)], minlength=3)
        assert np.abs(count - [60, 30, 10]).max() <= 2


def test_temperature_draws_groups_by_size_to_the_power_of_one_over_t():
    group = np.repeat([0, 1], [1600, 400])
    plan = BatchPlan(group, np.arange(2000), np.arange(2000, 4000), 50, 0, sampling_temperature=2.0)
    stream = _stream(plan, 40)
    # sqrt(1600) : sqrt(400) = 2 : 1, and 2000 pairs an epoch.
    assert Counter(group[stream].tolist()) == {0: 1333, 1: 667}


@pytest.mark.parametrize(("sizes", "batch"), [((900, 90, 9), 20), ((500, 5, 1), 16), ((40, 3), 20)])
def test_rows_of_a_language_pair_go_round(sizes, batch):
    group = np.repeat(np.arange(len(sizes)), sizes)
    rows = len(group)
    plan = BatchPlan(group, np.arange(rows), np.arange(rows, 2 * rows), batch, 1, sampling_temperature=5.0)
    stream = _stream(plan, 6 * plan.steps_per_epoch)
    for g in range(len(sizes)):
        drawn = stream[group[stream] == g]
        for start in range(0, len(drawn), sizes[g]):
            one_round = drawn[start : start + sizes[g]]
            assert len(set(one_round.tolist())) == len(one_round)
    assert plan.duplicates_left == 0
    for start in range(0, len(stream), batch):
        assert len(set(stream[start : start + batch].tolist())) == batch


@pytest.mark.parametrize("seed", range(8))
def test_reweighted_batches_hold_no_text_twice(seed):
    group, src, tgt = _data(1500, 6, 3, seed)
    plan = BatchPlan(group, src, tgt, 64, seed, sampling_temperature=2.0)
    assert sum(_repeats(plan.batch(step), src, tgt) for step in range(100)) == 0


def test_no_row_is_in_more_than_half_of_the_batches():
    group = np.repeat([0, 1], [1000, 1])
    plan = BatchPlan(group, np.arange(1001), np.arange(1001, 2002), 50, 0, sampling_temperature=100.0)
    assert (_stream(plan, 200) == 1000).sum() <= 101


def test_a_text_in_too_many_rows_is_spread_counted_and_logged(caplog):
    rows, often = 300, 14
    src = np.arange(rows)
    src[:often] = 7
    plan = BatchPlan(np.zeros(rows, dtype=int), src, np.arange(rows, 2 * rows), 30, seed=0)
    with caplog.at_level(logging.WARNING):
        batches = [plan.batch(step) for step in range(10)]
    assert sorted(np.concatenate(batches)) == list(range(rows))
    # Fourteen rows in ten batches: four cannot be alone, and no more than those.
    assert sum(_repeats(b, src, np.arange(rows, 2 * rows)) for b in batches) == 4
    assert plan.duplicates_left == 4
    assert caplog.text.count("training.batch_pairs") == 1


def test_homogeneous_batches_hold_one_language_pair_and_rows_go_round():
    sizes = (300, 100, 40)
    group = np.repeat(np.arange(3), sizes)
    plan = BatchPlan(group, np.arange(440) // 2, np.arange(440, 880), 20, 0, homogeneous=True)
    assert plan.steps_per_epoch == 15 + 5 + 2
    batches = [plan.batch(step) for step in range(2 * plan.steps_per_epoch)]
    assert all(len(set(group[b].tolist())) == 1 for b in batches)
    for epoch in range(2):
        read = np.concatenate(batches[epoch * 22 : (epoch + 1) * 22])
        assert sorted(read) == list(range(440))
    assert sum(_repeats(b, np.arange(440) // 2, np.arange(440, 880)) for b in batches) == 0
    by_pair = [[b.tolist() for b in batches if group[b[0]] == g] for g in range(3)]
    for reads in by_pair:
        assert reads[: len(reads) // 2] != reads[len(reads) // 2 :]
    assert plan.position(23) == (1, 1)


def test_position_counts_the_steps_that_began_in_the_epoch():
    group, src, tgt = _data(100, 1, 1)
    plan = BatchPlan(group, src, tgt, 30, 0)
    # Steps begin at pairs 0 30 60 90 | 120 150 180 | 210 ...
    assert [plan.position(step) for step in range(8)] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (2, 0),
    ]  # fmt: skip
    assert plan.steps_per_epoch == 4


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_ranks_share_a_batch_without_gap_or_overlap(world_size):
    batch = np.arange(100, 132)
    tokens = np.random.default_rng(0).integers(3, 200, 32)
    parts = [rank_rows(batch, rank, world_size, tokens) for rank in range(world_size)]
    assert sorted(np.concatenate(parts).tolist()) == batch.tolist()
    assert all(np.all(np.diff(part) > 0) for part in parts)
    sizes = [len(p) for p in parts]
    assert max(sizes) - min(sizes) <= 1


def test_ranks_get_as_many_tokens_as_each_other():
    # Long texts first, as where a batch is in the order of language pairs: its halves would be 10 to 1.
    tokens = np.repeat([100, 10], 16) + np.arange(32) % 5
    shares = [tokens[rank_rows(np.arange(32), rank, 2, tokens)].sum() for rank in range(2)]
    assert max(shares) / min(shares) < 1.01


def test_more_ranks_than_pairs_is_an_error_with_the_setting():
    with pytest.raises(ConfigError, match=r"batch_pairs.*\n.*train_workers"):
        rank_rows(np.arange(2), 0, 3, np.ones(2, dtype=np.int64))


@pytest.mark.parametrize("copies", [1, 2])
def test_a_batch_larger_than_the_data_names_the_setting(copies):
    group, src, tgt = _data(40 * copies, 1, copies)
    with pytest.raises(DataError, match=r"larger than the data(.|\n)*lower training.batch_pairs to 40"):
        BatchPlan(group, src, tgt, 41, 0)


def test_a_language_pair_too_small_for_homogeneous_batches_is_named():
    group = np.repeat([0, 1], [100, 10])
    with pytest.raises(DataError, match=r"eng-isl(.|\n)*homogeneous_batches=false"):
        BatchPlan(
            group,
            np.arange(110),
            np.arange(110, 220),
            20,
            0,
            homogeneous=True,
            group_names=["deu-eng", "eng-isl"],
        )
