from __future__ import annotations

import numpy as np

from xalign_dist.evaluation.items import items_table
from xalign_dist.evaluation.run import EvaluationResult
from xalign_dist.evaluation.scores import ItemScores


def test_items_keep_their_name_over_directions_and_repeat_with_a_number():
    clusters = np.array([10, 11, 10], dtype=np.int64)
    result = EvaluationResult(
        items={
            ("m", "retrieval", "accuracy", "eng-deu"): ItemScores.mean([1.0, 0.0, 0.5], clusters),
            ("m", "retrieval", "accuracy", "deu-eng"): ItemScores.mean([0.0, 1.0, 1.0], clusters),
        }
    )
    rows = items_table(result).to_pylist()
    names = {lang: [r["item"] for r in rows if r["lang"] == lang] for lang in ("eng-deu", "deu-eng")}
    assert names["eng-deu"] == names["deu-eng"] == ["a", "b", "a#2"]
    assert [r["score"] for r in rows if r["lang"] == "eng-deu"] == [1.0, 0.0, 0.5]
    assert {r["task"] for r in rows} == {"retrieval"}


def test_what_is_no_mean_of_items_is_left_out():
    result = EvaluationResult(
        items={
            ("m", "word_alignment", "f1", "eng-deu"): ItemScores.f1([1], [1], [1], [2]),
            ("m", "clir", "mrr@10", "eng-deu"): ItemScores.mean([1.0, 0.0], weights=[1.0, 0.0]),
        }
    )
    (row,) = items_table(result).to_pylist()
    assert (row["metric"], row["score"]) == ("mrr@10", 1.0)
