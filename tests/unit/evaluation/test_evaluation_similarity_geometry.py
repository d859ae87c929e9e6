import numpy as np
import pytest
from evaluation_toy_world import toy_embed, write_pairs
from scipy.spatial.distance import pdist

from xalign_dist.config.method import EvaluationConfig
from xalign_dist.errors import DataError
from xalign_dist.evaluation.compare import compare
from xalign_dist.evaluation.geometry import alignment, geometry, hubness, isometry, language_probe, uniformity
from xalign_dist.evaluation.jackknife import hubness_items, isometry_items, uniformity_items
from xalign_dist.evaluation.metrics import METRICS
from xalign_dist.evaluation.run import evaluate
from xalign_dist.evaluation.scores import ItemScores
from xalign_dist.evaluation.significance import paired_interval, paired_permutation
from xalign_dist.evaluation.similarity import similarity
from xalign_dist.evaluation.suite import parse_suite
from xalign_dist.evaluation.vectors import unit_rows

CFG = EvaluationConfig(bootstrap=200, permutations=400)


def sides(n=40, d=6, seed=0):
    rng = np.random.default_rng(seed)
    return unit_rows(rng.normal(size=(n, d))), unit_rows(rng.normal(size=(n, d)))


def test_nonpairs_equal_the_mean_over_the_matrix_without_its_diagonal():
    x, y = sides()
    scores = similarity(x, y)
    sim = x.astype(float) @ y.T.astype(float)
    off = (sim.sum(axis=1) - np.diag(sim)) / (len(x) - 1)
    np.testing.assert_allclose(scores.pairs_N, np.diag(sim), atol=1e-6)
    np.testing.assert_allclose(scores.nonpairs_N, off, atol=1e-6)
    np.testing.assert_allclose(scores.gap_N, np.diag(sim) - off, atol=1e-6)


def test_rows_with_the_same_source_or_target_text_are_no_mismatches():
    x, y = sides(5)
    src_keys, tgt_keys = np.array([7, 7, 1, 2, 3]), np.array([4, 4, 5, 5, 6])
    scores = similarity(x, y, src_keys=src_keys, tgt_keys=tgt_keys)
    same = (src_keys[:, None] == src_keys) | (tgt_keys[:, None] == tgt_keys)
    expected = np.where(same, 0, x @ y.T).sum(axis=1) / (~same).sum(axis=1)
    np.testing.assert_allclose(scores.nonpairs_N, expected, atol=1e-6)


def test_only_copies_or_one_pair_leave_nothing_to_compare():
    x, y = sides(3)
    with pytest.raises(DataError, match="no mismatches"):
        similarity(x, y, tgt_keys=np.array([1, 1, 1]))
    with pytest.raises(DataError, match="two pairs"):
        similarity(x[:1], y[:1])


def test_alignment_and_uniformity_equal_their_formulas():
    x, y = sides(30)
    np.testing.assert_allclose(alignment(x, y), ((x - y) ** 2).sum(axis=1), rtol=1e-5)
    expected = np.log(np.exp(-2 * pdist(x.astype(float)) ** 2).mean())
    assert uniformity(x) == pytest.approx(expected, abs=1e-5)


def test_uniformity_of_a_collapsed_space_is_zero():
    assert uniformity(np.ones((5, 3), np.float32) / np.sqrt(3)) == pytest.approx(0, abs=1e-5)


def test_isometry_sees_through_a_rotation_and_not_through_noise():
    x, y = sides(60)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0].astype(np.float32)
    assert isometry(x, x @ rotation) == pytest.approx(1, abs=1e-4)
    assert abs(isometry(x, y)) < 0.2
    assert np.isnan(isometry(x, np.ones_like(x)))


def test_a_hub_raises_the_skew():
    x, _ = sides(60)
    centre = np.eye(6, dtype=np.float32)[0]
    crowd = unit_rows(x + 3 * centre)
    targets = x.copy()
    targets[:3] = centre
    assert hubness(crowd, targets, k=5) > 2 > hubness(x, x, k=5)
    assert np.isnan(hubness(x[:4], x[:4], k=10))


def test_the_probe_finds_a_language_direction_and_no_more():
    x, _ = sides(80)
    groups = np.arange(80)
    shifted = x.copy()
    shifted[:, 0] += 3
    assert language_probe(x, unit_rows(shifted), groups).mean() > 0.95
    # The same vectors on both sides cannot be told apart, whatever the folds.
    assert language_probe(x, x, groups).mean() == pytest.approx(0.5, abs=0.15)
    assert len(language_probe(x, x, np.zeros(80, np.int64))) == 0


def test_the_probe_never_meets_a_copy_of_what_it_learnt():
    x, y = sides(24, d=64)
    copies = [np.tile(m, (4, 1)) for m in (x, y)]
    # No direction tells the sides apart; only a text seen in training could.
    assert language_probe(*copies, np.tile(np.arange(24), 4)).mean() < 0.75


def test_geometry_is_deterministic_and_needs_three_pairs():
    x, y = sides(20)
    first, again = (geometry(x, y, np.arange(20), seed=4) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(DataError, match="three pairs"):
        geometry(x[:2], y[:2], np.arange(2))


MEASURES = [
    pytest.param(lambda x, y: uniformity(np.concatenate([x, y])), uniformity_items, id="uniformity"),
    pytest.param(isometry, isometry_items, id="isometry"),
    pytest.param(hubness, hubness_items, id="hubness"),
]


def correlated(n, seed, noise=1.0, d=32):
    """Pairs in a cloud around one direction, as those of an encoder are."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + 0.5
    return unit_rows(x), unit_rows(x + noise * rng.normal(size=(n, d)))


@pytest.mark.parametrize(("measure", "items"), MEASURES)
def test_what_a_pair_adds_equals_leaving_it_out(measure, items):
    x, y = correlated(30, 1)
    without = [measure(np.delete(x, i, axis=0), np.delete(y, i, axis=0)) for i in range(30)]
    slow = 30 * measure(x, y) - 29 * np.array(without)
    np.testing.assert_allclose(items(x, y), slow - slow.mean() + measure(x, y), rtol=1e-3, atol=1e-3)
    assert items(x, y).mean() == pytest.approx(measure(x, y), abs=1e-5)


@pytest.mark.parametrize(("measure", "items"), MEASURES)
def test_the_spread_of_what_pairs_add_is_that_of_the_measure_over_samples(measure, items):
    samples = [correlated(150, seed) for seed in range(120)]
    true = np.std([measure(x, y) for x, y in samples])
    told = np.sqrt(np.mean([items(x, y).var(ddof=1) / 150 for x, y in samples]))
    # A jackknife errs towards too wide (Efron & Stein 1981), most where neighbourhoods overlap.
    assert 0.85 * true < told < 1.5 * true


@pytest.mark.parametrize(("measure", "items"), MEASURES)
def test_models_that_differ_only_by_chance_are_seldom_told_apart(measure, items):
    p_values = []
    for seed in range(100):
        x, _ = correlated(80, seed)
        rng = np.random.default_rng([seed, 1])
        ours, theirs = (unit_rows(x + 0.5 * rng.normal(size=x.shape)) for _ in range(2))
        pair = [[ItemScores.mean(items(x, y))] for y in (ours, theirs)]
        p_values.append(paired_permutation(*pair, permutations=400, seed=seed))
    # 5 are expected; more than 11 come by chance once in a hundred.
    assert np.sum(np.array(p_values) < 0.05) <= 11


def test_a_space_that_is_more_spread_out_is_told_apart():
    x, y = correlated(80, 3)
    crowded = [unit_rows(m + 0.1) for m in (x, y)]
    wide, narrow = ([ItemScores.mean(uniformity_items(*both))] for both in ((x, y), crowded))
    assert paired_permutation(wide, narrow, permutations=400) < 0.01
    low, high = paired_interval(wide, narrow)
    assert low < high < 0


def test_too_few_pairs_for_a_neighbourhood_have_a_hubness_without_a_test():
    x, y = correlated(11, 0)
    assert np.isfinite(hubness(x, y))
    assert np.isnan(hubness_items(x, y)).all()
    assert np.isfinite(hubness_items(*correlated(12, 0))).all()
    assert np.isnan(isometry_items(x, np.ones_like(x) / np.sqrt(6).astype(np.float32))).all()


def test_the_shape_of_the_space_has_intervals_and_tests(tmp_path):
    models = {"initial": toy_embed(noise=1.5, offset=1.0), "adaptive": toy_embed(noise=0.9)}
    task = {"task": "geometry", "data": write_pairs(tmp_path / "pairs.parquet", n=40)}
    result = evaluate(models, parse_suite({"high": ["deu"], "low": ["gle"], "tasks": [task]}), CFG, seed=0)
    rows = {r.metric: r for r in compare(result, "adaptive", ["initial"], CFG) if r.lang == "all"}
    assert set(rows) == set(METRICS["geometry"])
    for row in rows.values():
        assert row.n == 40
        assert row.p is not None
        assert row.low <= row.difference <= row.high
    # The initial toy model is shifted to one side and noisier.
    for metric in ("alignment", "uniformity", "isometry"):
        assert rows[metric].better, metric
        assert rows[metric].p < 0.05, metric
