"""What is known of a run's data and hidden from the run: for audits that check the system itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from xalign_dist.evaluation.audit import audit_scores
from xalign_dist.evaluation.mining import mining_scores
from xalign_dist.records import Metric
from xalign_dist.scoring import AuditEntry

MODEL = "adaptive"


@dataclass(frozen=True)
class Truth:
    """Ids of corrupted parallel pairs, and the translations hidden in the monolingual sides.

    Attributes:
        corrupted: (src_id, tgt_id) of every parallel pair that is no translation.
        hidden: (src_lang, tgt_lang) -> set of (src_id, tgt_id).
    """

    corrupted: frozenset[tuple[str, str]]
    hidden: dict[tuple[str, str], frozenset[tuple[str, str]]]


def _ids(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["src_id"].to_pylist(), table["tgt_id"].to_pylist(), strict=True))


def audit_metrics(
    scored: pa.Table, entries: list[AuditEntry], truth: Truth, round_: int, seed: int
) -> list[Metric]:
    """Estimated against true noise, for each language pair of the parallel text."""
    out = []
    for entry in entries:
        own = scored.filter(
            pa.compute.and_(
                pa.compute.equal(scored["src_lang"], entry.src_lang),
                pa.compute.equal(scored["tgt_lang"], entry.tgt_lang),
            )
        )
        noise = np.array([pair in truth.corrupted for pair in _ids(own)], dtype=bool)
        confidence = own["confidence"].to_numpy().astype(np.float64)
        # The cut is at or above the threshold; the scores count strictly above.
        cut = float(np.nextafter(entry.threshold or 0.0, -1.0))
        scores = audit_scores(confidence, noise, entry.noise_estimated, cut)
        for name in ("noise_estimated", "noise_true", "kept_clean", "noise_left"):
            value = float(getattr(scores, name))
            bounds = (entry.noise_low, entry.noise_high) if name == "noise_estimated" else (None, None)
            if np.isfinite(value):
                out.append(_row(round_, "audit", name, entry, value, len(noise), seed, bounds))
    return out


def mining_metrics(mined: pa.Table, truth: Truth, cut: float, round_: int, seed: int) -> list[Metric]:
    """Precision, recall, F1 and predicted precision, for each language pair and all together."""
    out: list[Metric] = []
    pooled: list[tuple[list[tuple[str, str, str]], list[float], set[tuple[str, str, str]]]] = []
    for (src_lang, tgt_lang), gold in sorted(truth.hidden.items()):
        own = mined.filter(
            pa.compute.and_(
                pa.compute.equal(mined["src_lang"], src_lang), pa.compute.equal(mined["tgt_lang"], tgt_lang)
            )
        )
        pairs, confidence = _ids(own), own["confidence"].to_numpy().astype(np.float64)
        out += _mining_rows(
            mining_scores(pairs, gold, confidence, cut), round_, src_lang, tgt_lang, len(gold), seed
        )
        pooled.append(([(tgt_lang, *p) for p in pairs], confidence.tolist(), {(tgt_lang, *p) for p in gold}))
    if pooled:
        everything = [p for part in pooled for p in part[0]]
        confidence = np.array([c for part in pooled for c in part[1]])
        gold_all = {p for part in pooled for p in part[2]}
        tagged = [(f"{p[0]}:{p[1]}", f"{p[0]}:{p[2]}") for p in everything]
        wanted = {(f"{p[0]}:{p[1]}", f"{p[0]}:{p[2]}") for p in gold_all}
        out += _mining_rows(
            mining_scores(tagged, wanted, confidence, cut), round_, "all", "all", len(wanted), seed
        )
    return out


def _mining_rows(
    scores: object, round_: int, src_lang: str, tgt_lang: str, n: int, seed: int
) -> list[Metric]:
    rows = []
    for name in ("precision", "recall", "f1", "predicted_precision"):
        value = float(getattr(scores, name))
        if np.isfinite(value):
            rows.append(Metric(MODEL, round_, "mining", name, src_lang, tgt_lang, value, None, None, n, seed))
    return rows


def _row(
    round_: int,
    task: str,
    metric: str,
    entry: AuditEntry,
    value: float,
    n: int,
    seed: int,
    bounds: tuple[float | None, float | None],
) -> Metric:
    return Metric(MODEL, round_, task, metric, entry.src_lang, entry.tgt_lang, value, *bounds, n, seed)
