"""Sampling shares by hand, and whole draws that add up."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.pairs import apportion, sampling_shares


def test_temperature_one_is_by_size():
    np.testing.assert_allclose(sampling_shares(np.array([30, 10, 0]), 1.0), [0.75, 0.25, 0.0])


def test_temperature_two_is_by_the_root():
    np.testing.assert_allclose(sampling_shares(np.array([900, 100]), 2.0), [0.75, 0.25])


def test_a_large_temperature_is_even():
    np.testing.assert_allclose(sampling_shares(np.array([10**6, 1]), 1e9), [0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_draws_add_up_keep_the_caps_and_stay_close_to_the_shares(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 1000, rng.integers(1, 30))
    total = int(sizes.sum())
    shares = sampling_shares(sizes, float(rng.uniform(1, 6)))
    free = np.full(len(sizes), total)
    draws = apportion(shares, total, free)
    assert draws.sum() == total
    assert np.abs(draws - shares * total).max() < 1
    caps = np.maximum(sizes, rng.integers(1, 2000, len(sizes)))
    capped = apportion(shares, total, caps)
    assert capped.sum() == total
    assert (capped <= caps).all()
    # Groups below their cap keep their proportions among themselves.
    loose = capped < caps
    if loose.sum() > 1:
        scale = capped[loose].sum() / shares[loose].sum()
        assert np.abs(capped[loose] - shares[loose] * scale).max() <= 1


def test_what_a_cap_cuts_off_goes_to_the_others_by_their_shares():
    assert apportion(np.array([0.5, 0.25, 0.25]), 100, np.array([10, 100, 100])).tolist() == [10, 45, 45]


def test_a_cap_may_fill_another():
    assert apportion(np.array([0.6, 0.3, 0.1]), 100, np.array([20, 40, 90])).tolist() == [20, 40, 40]
