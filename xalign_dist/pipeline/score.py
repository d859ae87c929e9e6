"""Stage: parallel pairs in, the same pairs with margin and confidence out, and their audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from xalign_dist.config import ScoringConfig
from xalign_dist.corpora.tables import write_table
from xalign_dist.runtime.vectors import VectorStore
from xalign_dist.scoring import AuditEntry, score_embedded, write_audit

PAIRS_FILE = "pairs.parquet"
AUDIT_FILE = "audit.json"


def score(
    pairs: pa.Table,
    vectors: VectorStore,
    config: ScoringConfig,
    target_noise: float,
    out: Path,
    *,
    round_: int,
    seed: int,
) -> dict[str, Any]:
    """Score ``pairs`` (``PAIR`` columns) into ``out``/pairs.parquet and ``out``/audit.json.

    Every pair is kept; ``confidence`` under the audit's threshold marks the doubtful ones.
    """
    table, entries = score_embedded(
        pairs,
        vectors(pairs["src"].to_pylist()),
        vectors(pairs["tgt"].to_pylist()),
        config,
        target_noise,
        round_,
        seed,
    )
    write_table(table, str(out / PAIRS_FILE))
    write_audit(entries, str(out / AUDIT_FILE))
    return {"pairs": table.num_rows, "kept": sum(e.kept or 0 for e in entries), "groups": len(entries)}


def thresholds(entries: list[AuditEntry]) -> dict[tuple[str, str, str], float]:
    """Least confidence kept, by (src_lang, tgt_lang, source)."""
    return {(e.src_lang, e.tgt_lang, e.source): float(e.threshold or 0.0) for e in entries}
