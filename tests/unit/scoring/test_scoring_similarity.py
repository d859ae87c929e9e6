"""Margins: known values, the partner left out with its copies, decoys treated alike."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.errors import DataError
from xalign_dist.scoring.decoys import random_decoys
from xalign_dist.scoring.similarity import Neighbourhood, equal_blocks, pair_scores


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    src = unit(rng.normal(size=(50, 16)) + 2)
    return src, unit(src + 0.1 * rng.normal(size=(50, 16)))


def slow_margin(src: np.ndarray, tgt: np.ndarray, i: int, j: int, k: int) -> float:
    """The formula with plain loops over unique vectors."""
    unique_tgt, unique_src = np.unique(tgt, axis=0), np.unique(src, axis=0)

    def mean(x: np.ndarray, others: np.ndarray, out: list[np.ndarray]) -> float:
        left = [float(x @ o) for o in others if not any((o == v).all() for v in out)]
        return float(np.mean(sorted(left, reverse=True)[:k]))

    yardstick = mean(src[i], unique_tgt, [tgt[j], tgt[i]]) + mean(tgt[j], unique_src, [src[i], src[j]])
    return float(src[i] @ tgt[j]) / (yardstick / 2)


def test_margin_of_pairs_and_decoys_follows_the_formula(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    src, tgt = pairs
    near = Neighbourhood(src, tgt, 4)
    i, j = np.array([0, 3, 3, 49]), np.array([0, 3, 7, 0])
    expected = [slow_margin(src, tgt, a, b, 4) for a, b in zip(i, j, strict=True)]
    np.testing.assert_allclose(near.scores(i, j).margin_N, expected, rtol=1e-5)
    np.testing.assert_allclose(near.scores(i, j).cosine_N, np.einsum("nd,nd->n", src[i], tgt[j]), rtol=1e-5)


def test_copies_of_a_pair_change_nothing(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    src, tgt = pairs
    copied = pair_scores(np.concatenate([src, src[:20]]), np.concatenate([tgt, tgt[:20]]), 4)
    np.testing.assert_allclose(copied.margin_N[:50], pair_scores(src, tgt, 4).margin_N, rtol=1e-6)


def test_a_million_copies_would_not_crowd_out_the_neighbours() -> None:
    rng = np.random.default_rng(1)
    src = unit(rng.normal(size=(6, 8)) + 1)
    many = np.concatenate([src, np.repeat(src[:1], 500, axis=0)])
    np.testing.assert_allclose(
        pair_scores(many, many, 2).margin_N[:6], pair_scores(src, src, 2).margin_N, rtol=1e-6
    )


def test_a_pair_alone_has_margin_one() -> None:
    one = np.array([[1.0, 0.0]], np.float32)
    assert pair_scores(one, one, 4).margin_N.tolist() == [1.0]
    assert len(pair_scores(one[:0], one[:0], 4).margin_N) == 0


def test_blocks_are_equal_and_cover_everything() -> None:
    blocks = equal_blocks(10, 4)
    assert [b.stop - b.start for b in blocks] == [3, 3, 4]
    assert [i for b in blocks for i in range(b.start, b.stop)] == list(range(10))
    assert equal_blocks(0, 4) == []


def test_bad_vectors_are_refused(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    src, tgt = pairs
    broken = tgt.copy()
    broken[7] = np.nan
    with pytest.raises(DataError, match="row 7"):
        pair_scores(src, broken, 4)
    with pytest.raises(DataError, match="unit length"):
        pair_scores(np.zeros_like(src), tgt, 4)
    with pytest.raises(DataError, match="do not pair up"):
        pair_scores(src[:10], tgt, 4)


def test_random_decoys_never_pair_equal_texts_and_keep_the_marginals() -> None:
    src_key, tgt_key = np.arange(40) // 2, np.arange(40) // 4
    i, j = random_decoys(src_key, tgt_key, 5, np.random.default_rng(0))
    assert (src_key[i] != src_key[j]).all()
    assert (tgt_key[i] != tgt_key[j]).all()
    assert len(i) > 150
    i, j = random_decoys(np.arange(40), np.arange(40), 5, np.random.default_rng(0))
    assert np.bincount(i).tolist() == np.bincount(j).tolist() == [5] * 40
    assert len(set(zip(i.tolist(), j.tolist(), strict=True))) == 200


def test_random_decoys_of_nothing_to_mismatch() -> None:
    rng = np.random.default_rng(0)
    for keys in (np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(9, np.int64)):
        assert len(random_decoys(keys, keys, 5, rng)[0]) == 0
