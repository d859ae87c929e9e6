"""Parallel pairs in; the same pairs with cosine, margin and confidence out, and what was found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xalign_dist.config import ScoringConfig
from xalign_dist.errors import DataError
from xalign_dist.records import ORIGIN_PARALLEL, PAIR, SCORED_PAIR, EmbedFn, Float32, Int64
from xalign_dist.scoring.audit import AuditEntry
from xalign_dist.scoring.calibrate import Calibration
from xalign_dist.scoring.judge import Judge, judge
from xalign_dist.scoring.sample import Draw, Group, Key, calibrated_with
from xalign_dist.scoring.similarity import check_pairs
from xalign_dist.scoring.tally import Tally, rows_by_group
from xalign_dist.scoring.yardstick import Rows, Yardstick


class Scored(NamedTuple):
    """``SCORED_PAIR`` rows in the order given, one audit entry and one calibration per group."""

    pairs: pa.Table
    entries: list[AuditEntry]
    calibrations: dict[Group, Calibration]


def score_pairs(
    table: pa.Table, embed: EmbedFn, cfg: ScoringConfig, target_noise: float, round_: int, seed: int
) -> tuple[pa.Table, list[AuditEntry]]:
    """:func:`score_embedded`, with ``embed`` called once for the distinct texts of both sides.

    Raises:
        DataError: columns of ``PAIR`` missing, or what :func:`score_embedded` refuses.
    """
    _check_columns(table)
    src, tgt = table["src"].to_pylist(), table["tgt"].to_pylist()
    place = {text: row for row, text in enumerate(dict.fromkeys([*src, *tgt]))}
    if not place:
        return SCORED_PAIR.empty_table(), []
    vectors = embed(list(place))
    src_ND, tgt_ND = vectors[[place[t] for t in src]], vectors[[place[t] for t in tgt]]
    return score_embedded(table, src_ND, tgt_ND, cfg, target_noise, round_, seed)


def score_embedded(
    table: pa.Table,
    src_ND: Float32,
    tgt_ND: Float32,
    cfg: ScoringConfig,
    target_noise: float,
    round_: int,
    seed: int,
) -> tuple[pa.Table, list[AuditEntry]]:
    """Score pairs whose vectors are there already.

    Args:
        table: ``PAIR`` columns, N rows.
        src_ND: float32 ``[N, D]`` unit vectors of ``src``; equal texts have equal vectors.
        tgt_ND: float32 ``[N, D]`` unit vectors of ``tgt``.
        cfg: ``scoring`` of the config.
        target_noise: noise rate allowed among the kept; sets each group's threshold.
        round_: written to the column ``round``.
        seed: of decoys, blocks and bootstrap.

    Returns:
        ``SCORED_PAIR`` rows in the order given (all of them), and one audit entry per
        (src_lang, tgt_lang, source). A pair is kept when its confidence reaches the threshold.

    Raises:
        DataError: columns missing, vectors that do not fit the rows or are not of unit length.
    """
    scored = score_groups(table, src_ND, tgt_ND, cfg, target_noise, round_, seed)
    return scored.pairs, scored.entries


def score_groups(
    table: pa.Table,
    src_ND: Float32,
    tgt_ND: Float32,
    cfg: ScoringConfig,
    target_noise: float,
    round_: int,
    seed: int,
) -> Scored:
    """As :func:`score_embedded`, with the calibration of every group for reports."""
    _check_columns(table)
    if len(src_ND) != table.num_rows:
        raise DataError(f"{table.num_rows} pairs, {len(src_ND)} vectors", "embed every pair once")
    check_pairs(src_ND, tgt_ND)
    every = _Table(table["src"].to_pylist(), table["tgt"].to_pylist(), src_ND, tgt_ND)
    by_group = rows_by_group(table)
    draw = Draw(cfg.block_rows, seed)
    for group, own in by_group.items():
        draw.add(group, own)
    columns = np.zeros((3, table.num_rows), np.float32)
    entries, calibrations = [], {}
    pools: dict[Key, tuple[Yardstick, Judge]] = {}
    for group, key in calibrated_with(draw.pairs, cfg.min_pairs).items():
        own, pooled = by_group[group], key != group
        rows, sample = every.take(own), every.take(draw.rows(group))
        if pooled and key not in pools:
            pool = Yardstick.of(every.take(draw.rows(key)), group[:2], cfg, seed)
            pools[key] = (pool, judge(pool, pool.measured.seen(), cfg, seed))
        yard = pools[key][0] if pooled else Yardstick.of(sample, group[:2], cfg, seed)
        measured = yard.measure(rows)
        judged = pools[key][1] if pooled else judge(yard, measured.seen(), cfg, seed)
        tally = Tally(
            judged.threshold(sample, yard.measure(sample) if pooled else yard.measured, target_noise)
        )
        found = judged.label(rows.src, rows.tgt, measured)
        tally.add(table.take(pa.array(own)), measured.margin_N, found)
        columns[:, own] = measured.cosine_N, measured.margin_N, found.confidence_N
        calibrations[group] = judged.calibration
        entries.append(tally.entry(group, judged, target_noise, pooled))
    return Scored(with_scores(table, columns, round_), entries, calibrations)


class _Table(NamedTuple):
    src: list[str]
    tgt: list[str]
    src_ND: Float32
    tgt_ND: Float32

    def take(self, own_M: Int64) -> Rows:
        """Some of the rows."""
        src, tgt = [self.src[i] for i in own_M], [self.tgt[i] for i in own_M]
        return Rows(src, tgt, self.src_ND[own_M], self.tgt_ND[own_M])


def with_scores(table: pa.Table, columns: npt.NDArray[np.float32], round_: int) -> pa.Table:
    """``SCORED_PAIR`` rows of ``table``; ``columns`` are cosine, margin, confidence, float32 ``[3, N]``."""
    count = table.num_rows
    added = [
        *(pa.array(c, pa.float32()) for c in columns),
        pa.array([ORIGIN_PARALLEL] * count, pa.string()),
        pa.array(np.full(count, round_, np.int32)),
        pa.array(np.zeros(count, np.int32)),
    ]
    plain = table.select(PAIR.names).cast(PAIR)
    return pa.table([*plain.columns, *added], schema=SCORED_PAIR)


def _check_columns(table: pa.Table) -> None:
    missing = [n for n in PAIR.names if n not in table.column_names]
    if missing:
        raise DataError(
            f"pairs without the columns {', '.join(missing)}", "map them with --columns ours=theirs"
        )
