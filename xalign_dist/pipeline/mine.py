"""Stage: monolingual sides in, pseudo-labels with reliability and predicted precision out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from xalign_dist.config import MiningConfig
from xalign_dist.corpora.tables import write_table
from xalign_dist.mining import KnnSearch, Ledger, MiningResult, mine
from xalign_dist.pipeline.console import Advance
from xalign_dist.pipeline.context import RunContext
from xalign_dist.pipeline.corpus import Sides
from xalign_dist.pipeline.rundir import write_json
from xalign_dist.pipeline.score import AUDIT_FILE, PAIRS_FILE
from xalign_dist.runtime.shards import shard_pool
from xalign_dist.runtime.vectors import VectorStore
from xalign_dist.scoring import AuditEntry, write_audit

LEDGER = "ledger"


def mine_pair(
    sides: Sides,
    vectors: VectorStore,
    second: VectorStore | None,
    config: MiningConfig,
    search: KnnSearch,
    *,
    round_: int,
    seed: int,
) -> MiningResult:
    """Mine one language pair.

    Args:
        search: finds neighbours, over shards or in this process.
        second: another encoder's vectors as the second view; None: the view in ``vectors``.
    """
    source, target = sides.source["text"].to_pylist(), sides.target["text"].to_pylist()
    views = [(vectors(source), vectors(target))]
    if config.second_view != "none":
        left = vectors.second(source) if second is None else second(source)
        right = vectors.second(target) if second is None else second(target)
        if left is not None and right is not None:
            views.append((left, right))
    return mine(sides.source, sides.target, search, views, config, round_, seed)


def mine_round(
    context: RunContext,
    sides: Mapping[tuple[str, str, str], Sides],
    vectors: VectorStore,
    second: VectorStore | None,
    number: int,
    advance: Advance,
) -> dict[str, Any]:
    """Mine every language pair of a round, pass the candidates through the ledger, write pairs and audit."""
    config, home = context.config, context.run.round(number)
    shards = context.resources.shards(config.mining.shards)
    entries, tables = [], []
    with shard_pool(
        context.run.corpus / "_index", shards, config.mining.index, config.mining.recall
    ) as search:
        for one in sides.values():
            result = mine_pair(one, vectors, second, config.mining, search, round_=number, seed=config.seed)
            entries.append(AuditEntry(**result.audit))
            tables.append(result.pairs)
            advance(one.target.num_rows)
    earlier = context.run.round(number - 1) / LEDGER
    ledger = Ledger.load(earlier) if earlier.exists() else Ledger(config.mining)
    report = ledger.update(number, pa.concat_tables(tables), {key[:2] for key in sides})
    ledger.save(home / LEDGER)
    write_json(home / "ledger.json", {"schema": 1, "events": dict(report.counts)})
    write_table(report.pairs, str(home / "mined" / PAIRS_FILE))
    write_audit(entries, home / "mined" / AUDIT_FILE)
    kept = sum(e.kept for e in entries)
    return {"candidates": sum(e.pairs for e in entries), "kept": kept, **report.counts}
