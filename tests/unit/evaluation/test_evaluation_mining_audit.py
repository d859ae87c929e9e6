import numpy as np
import pytest

from xalign_dist.errors import DataError
from xalign_dist.evaluation.audit import audit_scores
from xalign_dist.evaluation.mining import mining_items, mining_scores

GOLD = {("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")}
MINED = [("a", "1"), ("b", "2"), ("c", "9"), ("e", "5"), ("d", "4")]
CONFIDENCE = [0.9, 0.8, 0.7, 0.6, 0.4]


def test_mining_by_hand():
    scores = mining_scores(MINED, GOLD, CONFIDENCE)
    assert (scores.mined, scores.gold) == (4, 4)
    assert scores.precision == 0.5
    assert scores.recall == 0.5
    assert scores.f1 == 0.5
    assert scores.predicted_precision == pytest.approx(0.75)


def test_a_pair_named_twice_counts_once_and_all_count_without_confidence():
    scores = mining_scores([*MINED, MINED[0]], GOLD)
    assert scores.mined == 5
    assert scores.precision == pytest.approx(3 / 5)
    assert np.isnan(scores.predicted_precision)


def test_nothing_mined_has_no_precision_but_a_recall():
    scores = mining_scores([], GOLD)
    assert np.isnan(scores.precision)
    assert scores.recall == 0
    assert scores.f1 == 0
    with pytest.raises(DataError, match="5 mined pairs, 1 confidences"):
        mining_scores(MINED, GOLD, [0.5])


def test_items_sum_to_the_scores():
    items = mining_items(MINED, GOLD, CONFIDENCE, sources=["a", "b", "c", "d", "e", "f"])
    scores = mining_scores(MINED, GOLD, CONFIDENCE)
    for name in ("precision", "recall", "f1"):
        assert items[name].value == pytest.approx(getattr(scores, name))
        assert len(items[name]) == 6


def test_audit_by_hand():
    confidence = [0.9, 0.8, 0.3, 0.2, 0.6]
    noise = [False, False, False, True, True]
    scores = audit_scores(confidence, noise)
    assert scores.noise_true == pytest.approx(0.4)
    assert scores.noise_estimated == pytest.approx(1 - 2.8 / 5)
    assert scores.kept_clean == pytest.approx(2 / 3)
    assert scores.noise_left == pytest.approx(1 / 3)
    assert audit_scores(confidence, noise, noise_estimated=0.1, threshold=0.95).noise_estimated == 0.1


def test_audit_without_members_is_nan_and_ragged_input_is_refused():
    scores = audit_scores([0.1, 0.2], [True, True])
    assert np.isnan(scores.kept_clean)
    assert np.isnan(scores.noise_left)
    with pytest.raises(DataError):
        audit_scores([0.1], [True, False])
