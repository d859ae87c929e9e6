"""The stream of batches: the same as reading them one by one, and its thread always ends."""

from __future__ import annotations

import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from xalign_dist.batches import BatchPlan, BatchStream, make_batch, read_step
from xalign_dist.pairs import WEIGHTED_PAIR, TrainingSet, write_training_set

ROWS = 50


@pytest.fixture
def training_set(tmp_path):
    rows = [
        {
            "src_id": f"s{n}", "tgt_id": f"t{n}", "src_lang": "eng", "tgt_lang": ["fra", "deu"][n % 2],
            "src": f"source {n}", "tgt": f"target {n}", "source": "test", "cosine": 0.9, "margin": 1.1,
            "confidence": 0.5, "origin": "parallel", "round": 0, "stable_rounds": 0, "weight": 0.01 * n,
        }
        for n in range(ROWS)
    ]  # fmt: skip
    tokens = [list(range(n + 1)) for n in range(ROWS)]
    vectors = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    path = str(tmp_path / "set")
    write_training_set(
        path, pa.Table.from_pylist(rows, schema=WEIGHTED_PAIR), tokens, tokens[::-1], vectors, -vectors
    )
    return TrainingSet.open(path)


@pytest.fixture
def plan(training_set):
    ts = training_set
    return BatchPlan(ts.group_N, ts.src_key_N, ts.tgt_key_N, 12, 0, 2.0)


def _threads():
    return [t for t in threading.enumerate() if t.name == "xalign-batches"]


def test_a_batch_holds_its_rows(training_set):
    rows = np.array([7, 0, 31])
    batch = make_batch(training_set, rows, step=4, epoch=1)
    assert batch.src_tokens == [list(range(8)), [0], list(range(32))]
    assert batch.tgt_tokens == [list(range(43)), list(range(50)), list(range(19))]
    assert [training_set.languages[n] for n in batch.tgt_lang_B] == ["deu", "fra", "deu"]
    assert batch.weight_B.tolist() == pytest.approx([0.07, 0.0, 0.31])
    assert batch.src_key_B.tolist() == training_set.src_key_N[rows].tolist()
    assert batch.ref_src_BD is not None
    assert batch.ref_tgt_BD is not None
    np.testing.assert_array_equal(batch.ref_src_BD, -batch.ref_tgt_BD)
    assert (batch.step, batch.epoch) == (4, 1)


@pytest.mark.parametrize("world_size", [1, 3])
def test_the_ranks_streams_are_the_plan(training_set, plan, world_size):
    streams = [
        list(BatchStream(training_set, plan, rank, world_size, 2, 9, prefetch=3))
        for rank in range(world_size)
    ]
    for number, step in enumerate(range(2, 9)):
        parts = [stream[number] for stream in streams]
        batch = plan.batch(step)
        assert sorted(np.concatenate([p.rows_B for p in parts]).tolist()) == sorted(batch.tolist())
        assert {(p.step, p.epoch) for p in parts} == {(step, plan.position(step)[0])}
        expected = read_step(plan, training_set, step, 0, world_size)
        assert parts[0].src_tokens == expected.src_tokens
    assert not _threads()


def test_the_thread_ends_on_break(training_set, plan):
    for batch in BatchStream(training_set, plan, 0, 1, 0, 10_000):
        if batch.step == 3:
            break
    assert not _threads()


def test_the_thread_ends_when_the_step_fails(training_set, plan):
    def train():
        with BatchStream(training_set, plan, 0, 1, 0, 10_000) as stream:
            for batch in stream:
                raise ZeroDivisionError(batch.step)

    with pytest.raises(ZeroDivisionError):
        train()
    assert not _threads()


def test_closing_a_stream_that_never_began(training_set, plan):
    with BatchStream(training_set, plan, 0, 1, 0, 10) as stream:
        pass
    stream.close()
    assert not _threads()


def test_a_fault_in_the_thread_reaches_the_consumer_at_its_step(training_set, plan, monkeypatch):
    whole = plan.batch

    def faulty(step):
        if step == 3:
            raise OSError("disk gone")
        return whole(step)

    monkeypatch.setattr(plan, "batch", faulty)
    seen = []
    stream = (seen.append(batch.step) for batch in BatchStream(training_set, plan, 0, 1, 0, 10))
    with pytest.raises(OSError, match="disk gone"):
        list(stream)
    assert seen == [0, 1, 2]
    assert not _threads()


def test_waiting_is_told_apart_from_work(training_set, plan, monkeypatch):
    whole = plan.batch
    monkeypatch.setattr(plan, "batch", lambda step: time.sleep(0.02) or whole(step))
    starved = BatchStream(training_set, plan, 0, 1, 0, 10)
    list(starved)
    assert starved.wait_share > 0.6
    fed = BatchStream(training_set, plan, 0, 1, 0, 10)
    for _ in fed:
        time.sleep(0.05)
    assert fed.wait_share < 0.5
    assert fed.wait_seconds < starved.wait_seconds


def test_batches_read_ahead_cost_the_step_next_to_nothing(training_set, plan, monkeypatch):
    whole = plan.batch
    monkeypatch.setattr(plan, "batch", lambda step: time.sleep(0.005 if step else 0.03) or whole(step))
    stream = BatchStream(training_set, plan, 0, 1, 0, 20)
    for _ in stream:
        time.sleep(0.05)
    # Only the first batch was waited for, for as long as was left of it when the loop came to ask.
    assert stream.wait_seconds > 0.003
    assert stream.wait_share < 0.05
