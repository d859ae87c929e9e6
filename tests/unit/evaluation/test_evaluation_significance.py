import numpy as np
import pytest
from scipy import stats

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import ItemScores, cluster_sums
from xalign_dist.evaluation.seeds import crossed_bootstrap
from xalign_dist.evaluation.significance import (
    bootstrap_interval,
    holm,
    paired_interval,
    paired_permutation,
)


def two_models(n=120, gain=0.1, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.random(n)
    return ItemScores.mean(base + gain + 0.3 * rng.normal(size=n)), ItemScores.mean(base)


def test_interval_agrees_with_scipy():
    values = np.random.default_rng(1).gamma(2, size=150)
    ours = bootstrap_interval([ItemScores.mean(values)], resamples=20000, seed=0)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.01 * values.std())


def test_paired_interval_agrees_with_scipy_and_is_narrower_than_unpaired():
    a, b = two_models()
    ours = paired_interval([a], [b], resamples=20000)
    theirs = stats.bootstrap(
        (a.values - b.values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.004)


@pytest.mark.parametrize("gain", [0.0, 0.03, 0.06])
def test_permutation_p_agrees_with_scipy(gain):
    a, b = two_models(gain=gain)
    ours = paired_permutation([a], [b], permutations=20000)
    theirs = stats.permutation_test(
        (a.values, b.values),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20000,
        rng=np.random.default_rng(3),
    ).pvalue
    # scipy doubles the smaller tail, we count both: the same up to the distribution's skew.
    assert ours == pytest.approx(theirs, abs=0.03)


def test_small_tests_are_exact_as_in_scipy():
    a, b = two_models(n=9, gain=0.2)
    ours = paired_permutation([a], [b], permutations=2000)
    theirs = stats.permutation_test(
        (a.values, b.values), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert ours == pytest.approx(theirs)


def test_identical_models_have_p_one_and_no_difference():
    a, _ = two_models()
    assert paired_permutation([a], [a]) == 1.0
    assert paired_interval([a], [a]) == (0.0, 0.0)


def test_p_is_uniform_under_the_null_and_small_for_a_real_gain():
    p = [paired_permutation(*([m] for m in two_models(60, 0.0, s)), permutations=400) for s in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    a, b = two_models(gain=0.3)
    assert paired_permutation([a], [b], permutations=2000) == pytest.approx(1 / 2001)
    assert paired_permutation([a], [b], permutations=2000, finest=20000) == pytest.approx(1 / 20001)


def test_copies_of_items_in_one_cluster_do_not_narrow_the_interval():
    values = np.random.default_rng(0).random(100)
    once = bootstrap_interval([ItemScores.mean(values)], resamples=4000)
    copied = ItemScores.mean(np.tile(values, 10), np.tile(np.arange(100), 10))
    as_clusters = bootstrap_interval([copied], resamples=4000)
    as_items = bootstrap_interval([ItemScores.mean(copied.values)], resamples=4000)
    assert as_clusters == pytest.approx(once, abs=1e-9)
    assert np.diff(as_items)[0] < 0.5 * np.diff(once)[0]


def test_macro_average_weighs_languages_alike_and_shares_clusters():
    big = ItemScores.mean(np.zeros(90), np.arange(90))
    small = ItemScores.mean(np.ones(10), np.arange(10))
    low, high = bootstrap_interval([big, small], resamples=500)
    assert low == high == 0.5
    sums = cluster_sums([big, small])
    assert sums.shape == (90, 2, 2)
    assert sums[:, 1, 1].sum() == 10


def test_ratio_and_f1_metrics_are_permuted_as_wholes():
    # Model a links nothing wrongly, b links twice as much: F1 falls though no mean is defined.
    n = 40
    right, ones = np.ones(n), np.ones(n)
    a = ItemScores.f1(right, ones, right, ones)
    b = ItemScores.f1(right, 2 * ones, right, ones)
    assert a.value == 1.0
    assert b.value == pytest.approx(2 / 3)
    assert paired_permutation([a], [b], permutations=500) == pytest.approx(1 / 501)
    assert paired_interval([a], [b], resamples=500) == pytest.approx((1 / 3, 1 / 3))


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert len(holm([])) == 0


def seeds(effects, n=300, noise=0.2, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.random(n)
    ours = [[ItemScores.mean(base + e + noise * rng.normal(size=n))] for e in effects]
    return ours, [[ItemScores.mean(base)] for _ in effects]


def test_seeds_that_disagree_widen_the_interval_beyond_that_of_items():
    same = crossed_bootstrap(*seeds([0.05, 0.05, 0.05]), resamples=4000)
    apart = crossed_bootstrap(*seeds([-0.10, 0.05, 0.20]), resamples=4000)
    assert apart[0] == pytest.approx(same[0], abs=0.03)
    assert same[3] < 0.05 < apart[3]


@pytest.mark.parametrize("effects", [[0.02, 0.05, 0.14], [0.02, 0.05, 0.14, 0.06, 0.09]])
def test_where_items_add_nothing_it_is_the_t_test_over_seeds(effects):
    expected = stats.ttest_1samp(effects, 0.0)
    low, high = expected.confidence_interval(0.95)
    difference, *interval, p = crossed_bootstrap(*seeds(effects, noise=0.0), resamples=100_000)
    assert difference == pytest.approx(np.mean(effects))
    assert interval == pytest.approx([low, high], abs=0.03 * (high - low))
    assert p == pytest.approx(expected.pvalue, rel=0.05)


def test_no_more_false_alarms_than_promised_where_seeds_and_items_vary():
    rng = np.random.default_rng(0)
    found = [
        crossed_bootstrap(*seeds(rng.normal(scale=0.02, size=3), seed=n), resamples=200)[3] <= 0.05
        for n in range(200)
    ]
    assert np.mean(found) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_one_seed_is_the_bootstrap_over_items():
    ours, theirs = seeds([0.05])
    difference, low, high, _ = crossed_bootstrap(ours, theirs, resamples=2000)
    assert (low, high) == pytest.approx(paired_interval(ours[0], theirs[0], resamples=2000))
    assert low < difference < high


def test_items_that_do_not_match_are_refused():
    a, b = two_models(20)
    shorter = ItemScores.mean(b.values[:19])
    with pytest.raises(DataError, match="same items"):
        paired_permutation([a], [shorter])
    with pytest.raises(DataError, match="no items"):
        bootstrap_interval([])
    with pytest.raises(DataError, match="2 seeds against 1"):
        crossed_bootstrap([[a], [a]], [[b]])
