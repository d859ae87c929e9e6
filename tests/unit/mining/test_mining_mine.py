"""Mining with planted pairs: precision as predicted, shard invariance, small and empty corpora."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from xalign_dist.config import MiningConfig
from xalign_dist.errors import DataError
from xalign_dist.mining import (
    MiningResult,
    Neighbours,
    build_index,
    distinct,
    exact_knn,
    merge_topk,
    mine,
    mine_from_neighbours,
)
from xalign_dist.mining.consistency import rescored
from xalign_dist.mining.match import View, find_candidates
from xalign_dist.mining.null import _Experiment, both_alone
from xalign_dist.records import SCORED_PAIR, SENTENCE

DIM = 24
CONFIG = MiningConfig(neighbours=8)


def side(rows: int, lang: str) -> pa.Table:
    ids = [f"{lang}-{i}" for i in range(rows)]
    return pa.table(
        [ids, [lang] * rows, [f"text {i} in {lang}" for i in range(rows)], ["toy"] * rows], schema=SENTENCE
    )


def vectors(
    pairs: int, src_alone: int, tgt_alone: int, noise: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row i of both sides is a planted pair for i below ``pairs``.

    As in text, sentences come in topics, some of them generic and some far from all others.
    """
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(200, DIM)) + 0.7

    def sentences(rows: int) -> np.ndarray:
        return topics[rng.integers(0, 200, rows)] + rng.uniform(0.1, 1.5, (rows, 1)) * rng.normal(
            size=(rows, DIM)
        )

    def unit(x: np.ndarray) -> np.ndarray:
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    meaning = sentences(pairs)
    src = np.concatenate([meaning, sentences(src_alone)])
    tgt = np.concatenate([meaning + noise * rng.normal(size=meaning.shape), sentences(tgt_alone)])
    return unit(src), unit(tgt)


def mined(src: np.ndarray, tgt: np.ndarray, seed: int = 0, config: MiningConfig = CONFIG) -> MiningResult:
    return mine(side(len(src), "gle"), side(len(tgt), "eng"), exact_knn, [(src, tgt)], config, 1, seed)


def truth(result: MiningResult, pairs: int) -> np.ndarray:
    src = [int(i.split("-")[1]) for i in result.pairs["src_id"].to_pylist()]
    tgt = [int(i.split("-")[1]) for i in result.pairs["tgt_id"].to_pylist()]
    return np.array([a == b and a < pairs for a, b in zip(src, tgt, strict=True)])


@pytest.mark.parametrize(
    ("pairs", "src_alone", "tgt_alone", "noise"),
    [(200, 800, 800, 0.3), (600, 200, 200, 0.3), (250, 50, 200, 0.35), (300, 0, 0, 0.3)],
    ids=["low overlap", "high overlap", "few hundred", "all paired"],
)
def test_predicted_precision_is_the_true_one(
    pairs: int, src_alone: int, tgt_alone: int, noise: float
) -> None:
    src, tgt = vectors(pairs, src_alone, tgt_alone, noise, seed=1)
    result = mined(src, tgt)
    right = truth(result, pairs)
    confidence = result.pairs["confidence"].to_numpy()
    kept = confidence > 0.5
    precision, recall = right[kept].mean(), right[kept].sum() / pairs
    assert abs(precision - result.audit["predicted_precision"]) < 0.06
    assert precision > 0.85
    assert recall > 0.6
    assert result.audit["kept"] == kept.sum() == result.counts["kept"]
    assert result.audit["stable"], result.audit["note"]
    margin = result.pairs["margin"].to_numpy()
    best = max(2 * right[margin >= m].sum() / ((margin >= m).sum() + pairs) for m in margin)
    assert 2 * right[kept].sum() / (kept.sum() + pairs) > best - 0.04


@pytest.mark.parametrize("seed", range(2, 10))
def test_nothing_in_common_is_known_as_nothing(seed: int) -> None:
    src, tgt = vectors(0, 600, 600, 0.3, seed)
    result = mined(src, tgt)
    assert result.audit["pairs"] > 50
    assert result.audit["kept"] <= 0.1 * result.audit["pairs"] or not result.audit["stable"]


def test_translations_of_another_kind_than_the_rest_are_told_apart() -> None:
    """Parted, a sentence of a kind that is mostly translated finds few of its kind that are free."""
    kinds = [np.random.default_rng(k).normal(size=(200, DIM)) + 0.7 for k in (1, 2)]
    precision = []
    for seed in range(8):
        rng = np.random.default_rng(seed)

        def of_kind(kind: int, rows: int, rng: np.random.Generator = rng) -> np.ndarray:
            spread = rng.uniform(0.1, 1.5, (rows, 1)) * rng.normal(size=(rows, DIM))
            return kinds[kind][rng.integers(0, 200, rows)] + spread

        meaning = of_kind(0, 300)
        said_again = meaning + 0.3 * rng.normal(size=meaning.shape)
        both = [np.concatenate([x, of_kind(0, 50), of_kind(1, 900)]) for x in (meaning, said_again)]
        src, tgt = ((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in both)
        result = mined(src, tgt)
        kept = result.pairs["confidence"].to_numpy() > 0.5
        precision.append(truth(result, 300)[kept].mean())
        assert abs(precision[-1] - result.audit["predicted_precision"]) < 0.06
    assert np.mean(precision) > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_a_parallel_corpus_of_near_copies_is_kept(seed: int) -> None:
    """Where all have a translation, what a parted sentence finds is as strong as many translations."""
    rng = np.random.default_rng(seed)
    phrases = np.repeat(rng.normal(size=(60, DIM)) + 0.7, 4, axis=0)
    meaning = phrases + 0.45 * rng.normal(size=phrases.shape)
    both = (meaning, meaning + 0.4 * rng.normal(size=meaning.shape))
    src, tgt = ((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in both)
    result = mined(src, tgt)
    right, kept = truth(result, 240), result.pairs["confidence"].to_numpy() > 0.5
    assert right[kept].sum() >= 0.9 * right.sum()
    assert abs(right[kept].mean() - result.audit["predicted_precision"]) < 0.06


def test_the_prior_of_a_false_pair() -> None:
    assert both_alone(0, (10, 20)) == 1
    assert both_alone(10, (10, 20)) == 0
    assert both_alone(50, (100, 100)) == pytest.approx(0.5)
    assert both_alone(20, (100, 100)) == pytest.approx(0.64 / 0.68)
    assert both_alone(30, (20, 30)) == 0


def test_the_second_view_judges_the_neighbours_of_the_first() -> None:
    src, tgt = vectors(50, 20, 30, 0.4, seed=9)
    lists = exact_knn(src, tgt, 6)
    scores, ids = rescored(lists, src[:, ::-1].copy(), tgt[:, ::-1].copy())
    np.testing.assert_allclose(scores, lists[0], atol=1e-6)
    assert (ids == lists[1]).all()
    few = exact_knn(src, tgt[:4], 6)
    scores, ids = rescored(few, -src, tgt[:4])
    np.testing.assert_allclose(scores[:, :4], -few[0][:, :4], atol=1e-6)
    assert np.isneginf(scores[:, 4:]).all()
    for wrong in ((src[1:], tgt), (src, tgt[:4])):
        with pytest.raises(DataError, match="other rows"):
            rescored(lists, *wrong)


def test_belief_that_is_gone_does_not_come_back() -> None:
    src, tgt = vectors(0, 300, 300, 0.3, seed=3)
    view = View.of(exact_knn(src, tgt, 8), exact_knn(tgt, src, 8))
    experiment = _Experiment(find_candidates(view), view, None)
    count = len(experiment.strength)
    assert not experiment.confidence(np.full(count, 1e-3 / count)).any()


def test_few_believed_pairs_cost_belief_and_many_do_not() -> None:
    src, tgt = vectors(100, 900, 900, 0.3, seed=3)
    view = View.of(exact_knn(src, tgt, 8), exact_knn(tgt, src, 8))
    experiment = _Experiment(find_candidates(view), view, None)
    count = len(experiment.strength)
    for total in (20.0, 200.0):
        missed = experiment.unseen(np.full(count, total / count))
        # One event, and as many false candidates as each event stands for.
        assert missed.sum() == pytest.approx((1000 - total) / total)


def test_records_and_audit_are_complete() -> None:
    src, tgt = vectors(100, 200, 200, 0.3, seed=3)
    result = mined(src, tgt)
    assert result.pairs.schema == SCORED_PAIR
    assert set(result.pairs["origin"].to_pylist()) == {"mined"}
    assert set(result.pairs["src_lang"].to_pylist()) == {"gle"}
    assert result.pairs.num_rows > 100
    assert len(result.agrees) == result.pairs.num_rows == result.counts["candidates"]
    fields = (
        "src_lang tgt_lang source pairs kept noise_estimated noise_low noise_high threshold"
        " expected_noise_kept predicted_precision stable note"
    )
    assert list(result.audit) == fields.split()
    assert result.audit["noise_estimated"] is None
    assert mined(src, tgt).pairs.equals(result.pairs)


def sharded(base: np.ndarray, query: np.ndarray, k: int, shards: int, seed: int) -> Neighbours:
    edges = np.linspace(0, len(base), shards + 1).astype(int)
    parts = []
    for shard in np.random.default_rng(seed).permutation(shards):
        start, stop = edges[shard], edges[shard + 1]
        scores, ids = build_index(base[start:stop], "flat").search(query, k)
        parts.append((scores, np.where(ids >= 0, ids + start, -1)))
    return merge_topk(parts, k)


@pytest.mark.parametrize("shards", [2, 4, 7])
def test_shards_and_their_order_change_nothing(shards: int) -> None:
    src, tgt = vectors(150, 100, 120, 0.35, seed=4)
    # Equal vectors on both sides of a shard's edge: ties must break alike.
    tgt[140:160] = tgt[0]
    tables = side(len(src), "gle"), side(len(tgt), "eng")

    def run(count: int, seed: int) -> MiningResult:
        lists = (
            sharded(tgt, src, 8, count, seed),
            sharded(src, tgt, 8, count, seed),
            sharded(tgt[:, ::-1].copy(), src[:, ::-1].copy(), 8, count, seed),
            sharded(src[:, ::-1].copy(), tgt[:, ::-1].copy(), 8, count, seed),
        )
        return mine_from_neighbours(*tables, *lists, CONFIG, round_=1, seed=0)

    one, many = run(1, 0), run(shards, shards)
    names = ["src_id", "tgt_id"]
    assert many.pairs.select(names).equals(one.pairs.select(names))
    for name in ("cosine", "margin", "confidence"):
        np.testing.assert_allclose(many.pairs[name].to_numpy(), one.pairs[name].to_numpy(), atol=1e-6)
    assert many.audit["predicted_precision"] == pytest.approx(one.audit["predicted_precision"], abs=1e-6)


def test_a_second_view_that_disagrees_costs_confidence() -> None:
    src, tgt = vectors(400, 400, 400, 0.4, seed=5)
    rng = np.random.default_rng(6)

    def other(x: np.ndarray) -> np.ndarray:
        moved = x + 0.05 * rng.normal(size=x.shape)
        return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)

    tables = side(len(src), "gle"), side(len(tgt), "eng")
    result = mine(*tables, exact_knn, [(src, tgt), (other(src), other(tgt))], CONFIG, 1, 0)
    right, confidence = truth(result, 400), result.pairs["confidence"].to_numpy()
    assert 0 < result.counts["agreeing"] < result.counts["candidates"]
    assert right[result.agrees].mean() > right[~result.agrees].mean() + 0.2
    assert confidence[result.agrees].mean() > confidence[~result.agrees].mean() + 0.1
    kept = confidence > 0.5
    assert abs(right[kept].mean() - result.audit["predicted_precision"]) < 0.06


@pytest.mark.parametrize(("rows", "others"), [(1, 1), (1, 5), (2, 2), (5, 300)])
def test_tiny_corpora_are_mined_and_called_unstable(rows: int, others: int) -> None:
    src, tgt = vectors(rows, 0, others - rows, 0.2, seed=7)
    result = mined(src, tgt, config=MiningConfig(neighbours=16))
    assert not result.audit["stable"]
    assert result.audit["note"]
    assert np.isfinite(result.pairs["confidence"].to_numpy()).all()
    assert 1 <= result.pairs.num_rows <= rows


def test_copies_are_collapsed_first() -> None:
    table = pa.concat_tables([side(3, "gle")] * 100)
    assert distinct(table).equals(side(3, "gle"))
    lists = exact_knn(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 2)
    with pytest.raises(DataError, match="repeated texts"):
        mine_from_neighbours(table, side(3, "eng"), lists, lists, None, None, CONFIG, round_=1, seed=0)


def test_bad_sides_are_refused() -> None:
    eye = np.eye(3, dtype=np.float32)
    lists = exact_knn(eye, eye, 2)
    good = side(3, "gle")
    mixed = pa.concat_tables([side(2, "gle"), side(1, "eng")])
    for left, words in (
        (good.slice(0, 0), "empty side"),
        (mixed, "mixes eng, gle"),
        (good.drop_columns(["lang"]), "no column lang"),
        (side(2, "gle"), "3 neighbour lists for 2 sentences"),
    ):
        with pytest.raises(DataError, match=words):
            mine_from_neighbours(left, side(3, "eng"), lists, lists, None, None, CONFIG, round_=1, seed=0)
    with pytest.raises(DataError, match="as many vectors"):
        mine(good, good, exact_knn, [(eye[:2], eye)], CONFIG, 1, 0)
    with pytest.raises(DataError, match="dimensions"):
        mine(good, good, exact_knn, [(eye, np.eye(4, dtype=np.float32)[:3])], CONFIG, 1, 0)
    with pytest.raises(DataError, match="at least one view"):
        mine(good, good, exact_knn, [], CONFIG, 1, 0)
