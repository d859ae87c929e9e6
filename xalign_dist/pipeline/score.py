"""Stage: parallel pairs in, the same pairs with margin and confidence out, and their audit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa

from xalign_dist.config import ScoringConfig
from xalign_dist.pipeline.manifest import digest
from xalign_dist.records import PAIR_REJECT, Chunk, EmbedFn
from xalign_dist.runtime.scoring import RayPasses
from xalign_dist.runtime.vector_store import VectorStore
from xalign_dist.scoring import AuditEntry, write_audit
from xalign_dist.scoring.buckets import VectorBuckets
from xalign_dist.scoring.stage import Advance, Staged, stage
from xalign_dist.scoring.stream import Job, Passes, score_stream

PAIRS_FILE = "pairs.parquet"
AUDIT_FILE = "audit.json"
_TABLE_ROWS = 65_536


def score_staged(
    staged: Staged,
    vectors: EmbedFn,
    identity: str,
    config: ScoringConfig,
    target_noise: float,
    out: Path,
    *,
    round_: int,
    seed: int,
    passes: Passes | None = None,
    advance: Advance = lambda _: None,
) -> dict[str, Any]:
    """Score a laid-out corpus into ``out``/pairs.parquet and ``out``/audit.json.

    Every pair is kept; ``confidence`` under the audit's threshold marks the doubtful ones. Where it
    was killed it goes on with the parts that are not measured yet; what it laid out is removed
    when both files are written.

    Args:
        staged: the pairs.
        vectors: of all their texts, usable from any worker.
        identity: names the vectors.
        config: ``scoring`` of the config.
        target_noise: noise rate allowed among the kept.
        out: folder of the result.
        round_: written to the pairs.
        seed: of decoys and bootstrap.
        passes: None: over the connected Ray.
        advance: told of pairs as they are measured.
    """
    measured = Path(staged.folder).absolute() / f"measured-{digest(identity, config.neighbours)}"
    job = Job(staged, vectors, config, target_noise, seed, measured)
    entries = score_stream(job, passes or RayPasses(), str(out / PAIRS_FILE), round_, advance)
    write_audit(entries, str(out / AUDIT_FILE))
    shutil.rmtree(staged.folder)
    kept = sum(e.kept for e in entries)
    return {"pairs": staged.rows, "kept": kept, "groups": len(entries), "rejected": staged.rejected}


def score_table(
    pairs: pa.Table,
    vectors: VectorStore,
    config: ScoringConfig,
    target_noise: float,
    out: Path,
    *,
    round_: int,
    seed: int,
    advance: Advance,
) -> dict[str, Any]:
    """:func:`score_staged` for pairs whose vectors are in a :class:`VectorStore`."""
    work = out / "_work"
    name = digest(vectors.identity, config.block_rows, config.min_pairs, seed)
    chunks = (
        Chunk(pairs.slice(at, _TABLE_ROWS), PAIR_REJECT.empty_table())
        for at in range(0, pairs.num_rows, _TABLE_ROWS)
    )
    staged = stage(
        chunks, (work / name).absolute(), config.block_rows, config.min_pairs, seed, with_texts=False
    )
    store = VectorBuckets((work / "vectors").absolute(), 1)
    rows = vectors.rows(list(dict.fromkeys(pairs["src"].to_pylist() + pairs["tgt"].to_pylist())))
    store.save(vectors.keys[rows], vectors.main, rows)
    counts = score_staged(
        staged, store, vectors.identity, config, target_noise, out, round_=round_, seed=seed, advance=advance
    )
    shutil.rmtree(work)
    return {name: counts[name] for name in ("pairs", "kept", "groups")}


def thresholds(entries: list[AuditEntry]) -> dict[tuple[str, str, str], float]:
    """Least confidence kept, by (src_lang, tgt_lang, source)."""
    return {(e.src_lang, e.tgt_lang, e.source): float(e.threshold or 0.0) for e in entries}
