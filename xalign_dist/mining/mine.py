"""Two monolingual tables in, pseudo-labels with confidence and predicted precision out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from xalign_dist.config import MiningConfig
from xalign_dist.errors import DataError
from xalign_dist.mining.consistency import rescored
from xalign_dist.mining.knn import Neighbours, check_vectors
from xalign_dist.mining.match import Bool, Candidates, View, find_candidates
from xalign_dist.mining.null import Estimate, estimate
from xalign_dist.records import ORIGIN_MINED, SCORED_PAIR, SENTENCE, Float32, Int64

SOURCE = "mined"


@dataclass(frozen=True, slots=True)
class MiningResult:
    """What one language pair gave.

    Attributes:
        pairs: ``SCORED_PAIR`` rows (origin mined) of every candidate, by source row; those at or
            below ``mining.min_confidence`` are in it too.
        agrees: whether the second view names the same pair, one per row.
        audit: the fields of this pair's entry in audit.json.
        counts: sentences of each side, candidates, kept, agreeing, iterations.
    """

    pairs: pa.Table
    agrees: Bool
    audit: dict[str, Any]
    counts: dict[str, int]


class KnnSearch(Protocol):
    """Neighbours of vectors among one side's; in this process or over shards on a cluster."""

    def __call__(self, query_ND: Float32, base_MD: Float32, k: int) -> Neighbours:
        """The ``k`` rows of ``base_MD`` nearest to each query, as in ``exact_knn``."""
        ...


def distinct(table: pa.Table) -> pa.Table:
    """``table`` (``SENTENCE`` columns) without repeated texts: the first row of each stays.

    A copy would be a neighbour of its own translation's neighbourhood and push the margin down.
    """
    first: dict[str, int] = {}
    for row, text in enumerate(table["text"].to_pylist()):
        first.setdefault(text, row)
    return table.take(pa.array(list(first.values()), pa.int64()))


def mine(
    src_table: pa.Table,
    tgt_table: pa.Table,
    search: KnnSearch,
    views: Sequence[tuple[Float32, Float32]],
    cfg: MiningConfig,
    round_: int,
    seed: int,
) -> MiningResult:
    """Search both ways and mine; a second view judges the neighbours that the first one found.

    Args:
        src_table: ``SENTENCE`` columns, one language, distinct texts (:func:`distinct`).
        tgt_table: the other language.
        search: finds neighbours.
        views: (source vectors ``[N, D]``, target vectors ``[M, D]``), and optionally the second view.
        cfg: ``mining`` of the config.
        round_: written to the column ``round``.
        seed: of the bootstrap.

    Raises:
        DataError: as :func:`mine_from_neighbours`; vectors that do not fit the tables or each other.
    """
    if not views:
        raise DataError("no vectors to mine with", "give at least one view")
    for src_ND, tgt_MD in views[:2]:
        if len(src_ND) != src_table.num_rows or len(tgt_MD) != tgt_table.num_rows:
            raise DataError("there are not as many vectors as sentences", "embed every sentence once")
    src = check_vectors(views[0][0], "source")
    tgt = check_vectors(views[0][1], "target", src.shape[1])
    forward, backward = search(src, tgt, cfg.neighbours), search(tgt, src, cfg.neighbours)
    second: tuple[Neighbours | None, Neighbours | None] = (None, None)
    if len(views) > 1:
        second = rescored(forward, *views[1]), rescored(backward, *views[1][::-1])
    return mine_from_neighbours(
        src_table, tgt_table, forward, backward, *second, cfg, round_=round_, seed=seed
    )


def mine_from_neighbours(
    src_table: pa.Table,
    tgt_table: pa.Table,
    forward: Neighbours,
    backward: Neighbours,
    second_forward: Neighbours | None,
    second_backward: Neighbours | None,
    cfg: MiningConfig,
    *,
    round_: int,
    seed: int,
) -> MiningResult:
    """Mine from neighbour lists that are merged over all shards.

    Args:
        src_table: ``SENTENCE`` columns, N rows of one language, distinct texts.
        tgt_table: ``SENTENCE`` columns, M rows.
        forward: scores and rows of ``tgt_table``, ``[N, K]``.
        backward: scores and rows of ``src_table``, ``[M, K]``.
        second_forward: the same under the second view, or None.
        second_backward: the same under the second view, or None.
        cfg: ``mining`` of the config.
        round_: written to the column ``round``.
        seed: of the bootstrap.

    Raises:
        DataError: an empty side, repeated texts, more than one language on a side, or lists that
            do not fit the tables.
    """
    langs = _side_language(src_table, "source"), _side_language(tgt_table, "target")
    for lists in (forward, second_forward):
        _check_lists(lists, src_table)
    for lists in (backward, second_backward):
        _check_lists(lists, tgt_table)
    view = View.of(forward, backward)
    second = None
    if second_forward is not None and second_backward is not None:
        second = View.of(second_forward, second_backward)
    found = find_candidates(view)
    belief = estimate(found, view, second, cfg.max_iterations, seed)
    pairs = _pairs(src_table, tgt_table, found, belief, round_)
    audit = _audit(langs, belief, cfg.min_confidence)
    counts = {
        "source_sentences": src_table.num_rows,
        "target_sentences": tgt_table.num_rows,
        "candidates": pairs.num_rows,
        "kept": int(audit["kept"]),
        "agreeing": int(belief.agrees.sum()),
        "iterations": belief.iterations,
    }
    return MiningResult(pairs, belief.agrees, audit, counts)


def _side_language(table: pa.Table, side: str) -> str:
    missing = [n for n in SENTENCE.names if n not in table.column_names]
    if missing:
        raise DataError(f"{side}: no column {', '.join(missing)}", "map it with --columns ours=theirs")
    if table.num_rows == 0:
        raise DataError(f"{side}: an empty side cannot be mined", "check the corpus after cleaning")
    langs = sorted(set(table["lang"].to_pylist()))
    if len(langs) > 1:
        raise DataError(f"{side}: mixes {', '.join(langs)}", "mine one language pair at a time")
    if len(set(table["text"].to_pylist())) < table.num_rows:
        raise DataError(f"{side}: repeated texts", "collapse them first (xalign_dist.mining.distinct)")
    return str(langs[0])


def _check_lists(lists: Neighbours | None, table: pa.Table) -> None:
    if lists is not None and len(lists[1]) != table.num_rows:
        raise DataError(
            f"{len(lists[1])} neighbour lists for {table.num_rows} sentences", "search every sentence once"
        )


def _pairs(src: pa.Table, tgt: pa.Table, found: Candidates, belief: Estimate, round_: int) -> pa.Table:
    count = len(found.src)
    left, right = src.take(_rows(found.src)), tgt.take(_rows(found.tgt))
    columns = {
        "src_id": left["id"],
        "tgt_id": right["id"],
        "src_lang": left["lang"],
        "tgt_lang": right["lang"],
        "src": left["text"],
        "tgt": right["text"],
        "source": pa.array([SOURCE] * count, pa.string()),
        "cosine": pa.array(found.cosine, pa.float32()),
        "margin": pa.array(found.margin, pa.float32()),
        "confidence": pa.array(belief.confidence, pa.float32()),
        "origin": pa.array([ORIGIN_MINED] * count, pa.string()),
        "round": pa.array(np.full(count, round_, np.int32)),
        "stable_rounds": pa.array(np.zeros(count, np.int32)),
    }
    return pa.table(columns).cast(SCORED_PAIR)


def _rows(rows: Int64) -> pa.Array:
    return pa.array(rows, pa.int64())


def _audit(langs: tuple[str, str], belief: Estimate, cut: float) -> dict[str, Any]:
    kept = belief.confidence > cut
    predicted = float(belief.confidence[kept].mean()) if kept.any() else None
    return {
        "src_lang": langs[0],
        "tgt_lang": langs[1],
        "source": SOURCE,
        "pairs": len(kept),
        "kept": int(kept.sum()),
        # The noise fields are for pairs that someone claims to be translations.
        "noise_estimated": None,
        "noise_low": None,
        "noise_high": None,
        "threshold": cut,
        "expected_noise_kept": None if predicted is None else 1 - predicted,
        "predicted_precision": predicted,
        "stable": belief.stable,
        "note": belief.note,
    }
