"""Margins, mutual best and the parting experiment against loops over a full similarity matrix."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.errors import DataError
from xalign_dist.mining import MISSING, View, exact_knn, find_candidates
from xalign_dist.mining.consistency import agreement
from xalign_dist.mining.margin import best_of, list_margins, neighbourhood_means
from xalign_dist.mining.match import bereave


def world(pairs: int, alone: int, seed: int, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)

    def unit(x: np.ndarray) -> np.ndarray:
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    meaning = rng.normal(size=(pairs, 24)) + 1
    src = np.concatenate([meaning, rng.normal(size=(alone, 24)) + 1])
    tgt = np.concatenate([meaning + noise * rng.normal(size=meaning.shape), rng.normal(size=(alone, 24)) + 1])
    return unit(src), unit(tgt)


def full_view(src: np.ndarray, tgt: np.ndarray, k: int) -> View:
    return View.of(exact_knn(src, tgt, k), exact_knn(tgt, src, k))


def slow_margins(src: np.ndarray, tgt: np.ndarray, k: int) -> np.ndarray:
    sim = (src @ tgt.T).astype(np.float64)
    mean_src, mean_tgt = np.sort(sim, axis=1)[:, -k:].mean(axis=1), np.sort(sim, axis=0)[-k:].mean(axis=0)
    return sim / ((mean_src[:, None] + mean_tgt[None]) / 2)


def test_candidates_are_the_mutual_best_of_the_margin_matrix() -> None:
    src, tgt = world(40, 30, 0)
    margin = slow_margins(src, tgt, 70)
    found = find_candidates(full_view(src, tgt, 70))
    expected = [i for i in range(70) if margin[:, margin[i].argmax()].argmax() == i]
    assert found.src.tolist() == expected
    assert found.tgt.tolist() == margin[expected].argmax(axis=1).tolist()
    np.testing.assert_allclose(found.margin, margin[found.src, found.tgt], rtol=1e-5)
    np.testing.assert_allclose(found.cosine, np.einsum("nd,nd->n", src[found.src], tgt[found.tgt]), rtol=1e-5)
    for n, (i, j) in enumerate(zip(found.src, found.tgt, strict=True)):
        rival = max(np.delete(margin[i], j).max(), np.delete(margin[:, j], i).max())
        assert found.gap[n] == pytest.approx(margin[i, j] - rival, abs=1e-5)


def test_parting_a_pair_is_mining_without_its_target() -> None:
    src, tgt = world(40, 30, 1)
    view = full_view(src, tgt, 70)
    found = find_candidates(view)
    parted = bereave(view, found.src, found.tgt)
    margin = slow_margins(src, tgt, 70)
    sim = (src @ tgt.T).astype(np.float64)
    for n, (i, j) in enumerate(zip(found.src, found.tgt, strict=True)):
        left = margin.copy()
        own_mean = np.delete(sim[i], j).mean()
        left[i] = sim[i] / ((own_mean + sim.mean(axis=0)) / 2)
        left[:, j] = -np.inf
        partner = int(left[i].argmax())
        assert parted.partner[n] == partner
        assert parted.happens[n] == (left[:, partner].argmax() == i)
        rival = max(np.delete(left[i], partner).max(), np.delete(left[:, partner], i).max())
        assert parted.strength[n] == pytest.approx(2 * left[i, partner] - rival, abs=1e-5)
    assert 0 < parted.happens.sum() < len(found.src)


def test_missing_neighbours_never_count() -> None:
    src, tgt = world(6, 0, 2)
    enough, too_many = full_view(src, tgt, 6), full_view(src, tgt, 50)
    for left, right in zip(find_candidates(enough), find_candidates(too_many), strict=True):
        assert (left == right).all()
    scores = np.array([[0.9, 3.4e38], [3.4e38, 3.4e38]], np.float32)
    ids = np.array([[1, MISSING], [MISSING, MISSING]])
    means = neighbourhood_means((scores, ids))
    assert means.tolist() == pytest.approx([0.9, 0.0])
    margin = list_margins((scores, ids), means, np.array([0.5, 0.9], np.float32))
    assert margin[0].tolist() == pytest.approx([1.0, -np.inf])
    best, row = best_of(margin, ids)
    assert row.tolist() == [1, MISSING]
    assert np.isneginf(best[1])


def test_ties_go_to_the_lower_row() -> None:
    margin = np.array([[1.1, 1.2, 1.2]], np.float32)
    assert best_of(margin, np.array([[3, 9, 5]]))[1].tolist() == [5]
    assert best_of(margin, np.array([[3, 9, 5]]), np.array([5]))[1].tolist() == [9]


def test_agreement_asks_for_the_same_mutual_pair() -> None:
    src, tgt = world(30, 0, 3, noise=0.1)
    found = find_candidates(full_view(src, tgt, 8))
    assert agreement(full_view(src, tgt, 8), found.src, found.tgt).all()
    other = full_view(src, np.roll(tgt, 1, axis=0), 8)
    assert not agreement(other, found.src, found.tgt).any()


def test_lists_of_two_different_searches_are_refused() -> None:
    src, tgt = world(10, 0, 4)
    with pytest.raises(DataError, match="forward neighbours name row"):
        View.of(exact_knn(src, tgt, 3), exact_knn(tgt[:4], src, 3))
