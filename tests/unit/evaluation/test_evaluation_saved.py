from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.errors import DataError
from xalign_dist.evaluation.run import EvaluationResult
from xalign_dist.evaluation.saved import METRICS_FILE, read_result, save_result
from xalign_dist.evaluation.scores import ItemScores
from xalign_dist.records import Metric


def made() -> EvaluationResult:
    rng = np.random.default_rng(0)
    clusters = rng.integers(-(2**63), 2**63 - 1, 20, dtype=np.int64)
    return EvaluationResult(
        [Metric("full", 1, "retrieval", "accuracy", "deu", "eng", 0.1 + 0.2, None, None, 20, 7)],
        {
            ("full", "retrieval", "accuracy", "deu-eng"): ItemScores.mean(rng.random(20), clusters),
            ("full", "retrieval", "f1", "deu-eng"): ItemScores.f1(*rng.random((4, 20)), clusters),
            ("full", "lexicon", "p@1", "deu-eng"): ItemScores.mean([np.nan, 1.0], clusters[:2], [0.0, 1.0]),
        },
        {"retrieval": {"high": frozenset({"deu", "fra"}), "low": frozenset()}},
        ["left out: nothing"],
    )


def test_an_evaluation_is_read_back_to_the_last_bit(tmp_path):
    result = made()
    save_result(result, tmp_path)
    found = read_result(tmp_path)
    assert (found.metrics, found.groups, found.notes) == (result.metrics, result.groups, result.notes)
    assert list(found.items) == list(result.items)
    for key, items in result.items.items():
        assert found.items[key].reduce == items.reduce
        np.testing.assert_array_equal(found.items[key].sums_NK, items.sums_NK)
        np.testing.assert_array_equal(found.items[key].clusters_N, items.clusters_N)


def test_a_damaged_file_is_no_evaluation(tmp_path):
    save_result(made(), tmp_path)
    (tmp_path / METRICS_FILE).write_text("{")
    with pytest.raises(DataError, match="not readable"):
        read_result(tmp_path)


def test_models_side_by_side():
    one, two = made(), made()
    two.items = {("bare", *key[1:]): value for key, value in two.items.items()}
    both = EvaluationResult.merged([one, two])
    assert len(both.items) == 6
    assert len(both.metrics) == 2
