"""Stage: monolingual sides in, pseudo-labels with reliability and predicted precision out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from xalign_dist.config import MiningConfig
from xalign_dist.corpora.tables import write_table
from xalign_dist.encoder.load import vector_width
from xalign_dist.mining import Ledger, MiningResult, Neighbours, mine_from_neighbours
from xalign_dist.mining.consistency import rescored
from xalign_dist.mining.known import BlockSearch, KnownLists, Rows
from xalign_dist.mining.plan import describe
from xalign_dist.pipeline.console import Advance, Screen
from xalign_dist.pipeline.context import RunContext
from xalign_dist.pipeline.corpus import Sides
from xalign_dist.pipeline.manifest import digest
from xalign_dist.pipeline.rundir import write_json
from xalign_dist.pipeline.score import AUDIT_FILE, PAIRS_FILE
from xalign_dist.records import Float32
from xalign_dist.runtime.search import Search, neighbour_search, require_room
from xalign_dist.runtime.vector_store import VectorStore, taken
from xalign_dist.scoring import AuditEntry, write_audit

LEDGER = "ledger"


def announce(screen: Screen, search: Search, sides: Iterable[Sides], vectors: VectorStore) -> None:
    """Say which index every search will take, its memory and time, before the first one starts.

    Raises:
        ResourceError: one does not fit, with the numbers.
    """
    dim, plans = vectors.main.shape[1], []
    for one in sides:
        rows = one.source.num_rows, one.target.num_rows
        plans += [search.plan(rows[1], dim, rows[0]), search.plan(rows[0], dim, rows[1])]
    screen.say(f"      {describe(plans)}")


def check_room(context: RunContext, sides: Iterable[Sides]) -> None:
    """Refuse before anything is embedded what no index can hold.

    Raises:
        ResourceError: with the numbers.
    """
    config = context.config
    width = max(vector_width(config.scoring.reference), vector_width(config.encoder.model, config.encoder))
    rows = [(one.source.num_rows, one.target.num_rows) for one in sides]
    require_room(config.mining, rows, width, lambda: context.resources, alone=_alone(context))


def _alone(context: RunContext) -> bool:
    return context.config.runtime.address is None and context.resources.nodes == 1


def mine_pair(
    sides: Sides,
    vectors: VectorStore,
    second: VectorStore | None,
    config: MiningConfig,
    search: BlockSearch,
    known: Path,
    *,
    round_: int,
    seed: int,
) -> MiningResult:
    """Mine one language pair. Lists that an earlier, killed or smaller run found are not searched again.

    Args:
        second: another encoder's vectors as the second view; None: the view in ``vectors``.
        search: finds neighbours over shards.
        known: folder of the lists of this language pair, for any encoder.
    """
    texts = sides.source["text"].to_pylist(), sides.target["text"].to_pylist()
    rows = [vectors.rows(side) for side in texts]
    source, target = (Rows(vectors.keys[r], taken(vectors.main, r)) for r in rows)
    lists = KnownLists(known / vectors.encoder, config.neighbours).both(search, source, target)
    views: tuple[Neighbours | None, Neighbours | None] = (None, None)
    others: list[Float32] = []
    if config.second_view != "none" and second is not None:
        others = [second(side) for side in texts]
    elif config.second_view != "none" and vectors.view is not None:
        others = [taken(vectors.view, r) for r in rows]
    if others:
        views = rescored(lists[0], *others), rescored(lists[1], *others[::-1])
    return mine_from_neighbours(sides.source, sides.target, *lists, *views, config, round_=round_, seed=seed)


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
    entries, tables = [], []
    index, settings = context.run.corpus / "_index", config.mining
    rows = [side.num_rows for one in sides.values() for side in (one.source, one.target)]
    with neighbour_search(
        settings, index, rows, lambda: context.resources, alone=_alone(context), say=context.screen.say
    ) as search:
        announce(context.screen, search, sides.values(), vectors)
        for key, one in sides.items():
            known = index / digest(*key)
            result = mine_pair(one, vectors, second, settings, search, known, round_=number, seed=config.seed)
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
