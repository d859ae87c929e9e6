"""From scores to weighted pairs: which stay, what they weigh, and counts that add up."""

from __future__ import annotations

import pyarrow as pa
import pytest

from xalign_dist.config import PairsConfig
from xalign_dist.errors import DataError
from xalign_dist.pairs import WEIGHTED_PAIR, select_pairs
from xalign_dist.pairs.select import require_pairs
from xalign_dist.records import SCORED_PAIR

THRESHOLDS = {("eng", "fra", "web"): 0.6, ("eng", "deu", "web"): 0.2}


def _pairs(*rows, origin="parallel"):
    return pa.Table.from_pylist(
        [
            {
                "src_id": f"s{n}", "tgt_id": f"t{n}", "src_lang": "eng", "tgt_lang": lang,
                "src": src, "tgt": tgt, "source": "web", "cosine": 0.9, "margin": 1.1,
                "confidence": confidence, "origin": origin, "round": 0, "stable_rounds": 0,
            }
            for n, (lang, src, tgt, confidence) in enumerate(rows)
        ],
        schema=SCORED_PAIR,
    )  # fmt: skip


PARALLEL = _pairs(
    ("fra", "a", "A", 0.7), ("fra", "b", "B", 0.5), ("deu", "a", "AA", 0.3), ("deu", "c", "C", 0.1)
)
MINED = _pairs(("isl", "a", "x", 0.9), ("isl", "b", "y", 0.4), origin="mined")


def _kept(selection):
    return list(zip(selection.pairs["src"].to_pylist(), selection.pairs["tgt"].to_pylist(), strict=True))


def _outcomes(selection):
    return {
        (row["tgt_lang"], row["origin"], row["outcome"]): row["pairs"] for row in selection.counts.to_json()
    }


def test_thresholds_are_by_language_pair_and_source():
    chosen = select_pairs(PARALLEL, None, THRESHOLDS, PairsConfig(), 0.5)
    assert _kept(chosen) == [("a", "A"), ("a", "AA")]
    assert chosen.pairs["weight"].to_pylist() == pytest.approx([0.7, 0.3])
    assert chosen.pairs.schema == WEIGHTED_PAIR
    assert _outcomes(chosen) == {
        ("fra", "parallel", "kept"): 1,
        ("fra", "parallel", "below_threshold"): 1,
        ("deu", "parallel", "kept"): 1,
        ("deu", "parallel", "below_threshold"): 1,
    }


def test_a_confidence_at_the_threshold_stays():
    chosen = select_pairs(_pairs(("fra", "a", "A", 0.6)), None, THRESHOLDS, PairsConfig(), 0.5)
    assert _kept(chosen) == [("a", "A")]


def test_no_filter_keeps_all_and_needs_no_threshold():
    chosen = select_pairs(PARALLEL, None, {}, PairsConfig(filter_parallel=False), 0.5)
    assert len(_kept(chosen)) == 4


def test_without_confidence_as_weight_kept_pairs_weigh_one():
    chosen = select_pairs(PARALLEL, MINED, THRESHOLDS, PairsConfig(use_confidence_as_weight=False), 0.5)
    assert chosen.pairs["weight"].to_pylist() == [1.0, 1.0, 1.0]


def test_a_mined_pair_must_exceed_its_limit():
    """The ledger sets a label that a better one put out to the limit exactly."""
    at_limit = MINED.set_column(
        MINED.column_names.index("confidence"), "confidence", pa.array([0.5] * MINED.num_rows, pa.float32())
    )
    chosen = select_pairs(PARALLEL, at_limit, THRESHOLDS, PairsConfig(), 0.5)
    assert set(chosen.pairs["origin"].to_pylist()) == {"parallel"}


def test_mined_pairs_enter_by_their_own_limit():
    chosen = select_pairs(PARALLEL, MINED, THRESHOLDS, PairsConfig(), 0.5)
    assert _kept(chosen)[2:] == [("a", "x")]
    assert _outcomes(chosen)["isl", "mined", "below_min_confidence"] == 1
    assert chosen.pairs["origin"].to_pylist() == ["parallel", "parallel", "mined"]


def test_mined_pairs_can_be_left_out():
    chosen = select_pairs(PARALLEL, MINED, THRESHOLDS, PairsConfig(use_mined=False), 0.5)
    assert "mined" not in chosen.pairs["origin"].to_pylist()
    assert _outcomes(chosen)["isl", "mined", "mined_not_used"] == 2


def test_a_mined_pair_that_is_parallel_already_is_not_read_twice():
    mined = _pairs(("fra", "a", "A", 0.9), ("fra", "A", "a", 0.9), ("fra", "b", "B", 0.9), origin="mined")
    chosen = select_pairs(PARALLEL, mined, THRESHOLDS, PairsConfig(), 0.5)
    # (b, B) fell under the parallel threshold, so the mined one is news.
    assert _kept(chosen)[2:] == [("b", "B")]
    assert _outcomes(chosen)["fra", "mined", "already_parallel"] == 2


def test_a_pair_of_weight_zero_is_not_read():
    pairs = _pairs(("fra", "a", "A", 0.0), ("fra", "b", "B", 1.0))
    weighed = select_pairs(pairs, None, {}, PairsConfig(filter_parallel=False), 0.5)
    assert _kept(weighed) == [("b", "B")]
    assert _outcomes(weighed)["fra", "parallel", "zero_weight"] == 1
    even = PairsConfig(filter_parallel=False, use_confidence_as_weight=False)
    assert len(_kept(select_pairs(pairs, None, {}, even, 0.5))) == 2


def test_counts_add_up_over_shards():
    whole = select_pairs(PARALLEL, None, THRESHOLDS, PairsConfig(), 0.5)
    parts = [select_pairs(PARALLEL[n : n + 1], None, THRESHOLDS, PairsConfig(), 0.5) for n in range(4)]
    total = parts[0].counts
    for part in parts[1:]:
        total = total + part.counts
    assert total == whole.counts
    assert total.total() == 4
    assert total.total("kept") == whole.pairs.num_rows == 2


def test_tables_of_several_chunks_and_of_no_row():
    chunked = pa.concat_tables([PARALLEL[:1], PARALLEL[1:]])
    assert _kept(select_pairs(chunked, MINED[:0], THRESHOLDS, PairsConfig(), 0.5)) == [
        ("a", "A"),
        ("a", "AA"),
    ]
    assert select_pairs(PARALLEL[:0], MINED, {}, PairsConfig(), 0.5).pairs.num_rows == 1


def test_a_group_the_audit_does_not_know_is_named():
    with pytest.raises(DataError, match=r"'eng', 'deu', 'web'.*\n.*filter_parallel=false"):
        select_pairs(PARALLEL, None, {("eng", "fra", "web"): 0.5}, PairsConfig(), 0.5)


@pytest.mark.parametrize("confidence", [float("nan"), None, -0.1, 1.2])
def test_a_confidence_that_is_none_is_refused(confidence):
    pairs = _pairs(("fra", "a", "A", 0.7), ("fra", "b", "B", confidence))
    with pytest.raises(DataError, match="row 1: confidence"):
        select_pairs(pairs, None, THRESHOLDS, PairsConfig(), 0.5)


def test_no_pair_left_says_what_became_of_them():
    zero = _pairs(("fra", "a", "A", 0.0), ("fra", "b", "B", 0.0))
    with pytest.raises(DataError, match=r"(?s)2 below threshold.*audit\.json.*use_confidence_as_weight"):
        require_pairs(select_pairs(zero, None, THRESHOLDS, PairsConfig(), 0.5))
    with pytest.raises(DataError, match="2 zero weight"):
        require_pairs(select_pairs(zero, None, {}, PairsConfig(filter_parallel=False), 0.5))
    kept = select_pairs(
        zero, None, {}, PairsConfig(filter_parallel=False, use_confidence_as_weight=False), 0.5
    )
    assert require_pairs(kept).num_rows == 2
