"""Length buckets: every text once, limits kept, padding as computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.batches import length_chunks, padding_share


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("max_tokens", [None, 60])
def test_every_text_once_and_limits_kept(seed, max_tokens):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 40, rng.integers(1, 400))
    chunks = length_chunks(lengths, 16, max_tokens)
    assert sorted(np.concatenate(chunks)) == list(range(len(lengths)))
    for chunk in chunks:
        assert len(chunk) <= 16
        if max_tokens is not None and len(chunk) > 1:
            assert len(chunk) * lengths[chunk].max() <= max_tokens
    order = np.concatenate(chunks)
    assert order.tolist() == sorted(range(len(lengths)), key=lambda n: (-lengths[n], n))


def test_equal_lengths_keep_their_order():
    assert [c.tolist() for c in length_chunks(np.array([5, 7, 5, 7, 5]), 2, None)] == [[1, 3], [0, 2], [4]]


def test_no_text_no_chunk():
    assert length_chunks(np.zeros(0, dtype=np.int64), 4, None) == []
    assert padding_share(np.zeros(0, dtype=np.int64), []) == 0.0


def test_padding_share_by_hand():
    lengths = np.array([4, 2, 10])
    # One chunk: 3 x 10 places for 16 tokens. Buckets of two: 2 x 10 + 1 x 2 for 16.
    assert padding_share(lengths, [np.arange(3)]) == pytest.approx(1 - 16 / 30)
    assert padding_share(lengths, length_chunks(lengths, 2, None)) == pytest.approx(1 - 16 / 22)


def test_buckets_pad_less_than_the_order_given():
    lengths = np.random.default_rng(0).geometric(0.05, 256)
    plain = [np.arange(start, start + 32) for start in range(0, 256, 32)]
    assert padding_share(lengths, length_chunks(lengths, 32, None)) < 0.5 * padding_share(lengths, plain)
