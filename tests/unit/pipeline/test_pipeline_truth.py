"""The system's own estimates against a truth worked out by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from xalign_dist.pipeline.truth import Truth, audit_metrics, mining_metrics
from xalign_dist.records import SCORED_PAIR
from xalign_dist.scoring import AuditEntry


def scored(rows):
    base = {
        "src_lang": "eng",
        "source": "s",
        "src": "a",
        "tgt": "b",
        "cosine": 0.5,
        "margin": 1.0,
        "origin": "mined",
        "round": 1,
        "stable_rounds": 1,
    }
    return pa.Table.from_pylist([base | r for r in rows], schema=SCORED_PAIR)


def values(metrics, lang):
    return {m.metric: m.value for m in metrics if m.tgt_lang == lang}


def test_mining_counts_per_language_and_together():
    pairs = scored(
        [
            {"src_id": "1", "tgt_id": "1", "tgt_lang": "gle", "confidence": 0.9},
            {"src_id": "2", "tgt_id": "9", "tgt_lang": "gle", "confidence": 0.7},
            {"src_id": "3", "tgt_id": "3", "tgt_lang": "gle", "confidence": 0.5},
            {"src_id": "1", "tgt_id": "1", "tgt_lang": "uig", "confidence": 0.8},
        ]
    )
    truth = Truth(
        frozenset(),
        {
            ("eng", "gle"): frozenset({("1", "1"), ("2", "2"), ("3", "3"), ("4", "4")}),
            ("eng", "uig"): frozenset({("1", "1")}),
        },
    )
    found = mining_metrics(pairs, truth, 0.5, 1, 0)
    # 0.5 is not above the cut: of two Irish pairs left, one is right, of four to find.
    assert values(found, "gle") == pytest.approx(
        {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "predicted_precision": 0.8}
    )
    assert values(found, "all") == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 5, "f1": 0.5, "predicted_precision": 0.8}
    )


def test_audit_compares_estimate_and_truth():
    pairs = scored(
        [
            {"src_id": str(i), "tgt_id": str(i), "tgt_lang": "deu", "confidence": c}
            for i, c in enumerate([0.9, 0.8, 0.6, 0.1])
        ]
    )
    entry = AuditEntry(
        "eng", "deu", "s", 4, 3, noise_estimated=0.3, noise_low=0.2, noise_high=0.4, threshold=0.6
    )
    truth = Truth(frozenset({("2", "2"), ("3", "3")}), {})
    found = values(audit_metrics(pairs, [entry], truth, 1, 0), "deu")
    assert found == pytest.approx(
        {"noise_estimated": 0.3, "noise_true": 0.5, "kept_clean": 1.0, "noise_left": 1 / 3}
    )
