"""Parallel pairs in; the same pairs with cosine, margin and confidence out, and what was found."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xalign_dist.config import ScoringConfig
from xalign_dist.errors import DataError
from xalign_dist.records import ORIGIN_PARALLEL, PAIR, SCORED_PAIR, EmbedFn, Float32, Int64, text_keys
from xalign_dist.scoring.audit import AuditEntry
from xalign_dist.scoring.calibrate import Calibration, cut_for
from xalign_dist.scoring.group import GroupScores, Rows, score_group
from xalign_dist.scoring.similarity import check_pairs

Group = tuple[str, str, str]

# Near misses are mentioned when their interval starts above this.
NOTED_RATE = 0.02
POOLED_NOTE = "too few pairs of this source: calibrated with all sources of the language pair"


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
    src, tgt = table["src"].to_pylist(), table["tgt"].to_pylist()
    rows = Rows(src, tgt, src_ND, tgt_ND, text_keys(src), text_keys(tgt))
    columns = np.zeros((3, table.num_rows), np.float32)
    entries, calibrations = [], {}
    for (src_lang, tgt_lang), by_source in sorted(_groups(table).items()):
        pooled: GroupScores | None = None
        everything = np.sort(np.concatenate(list(by_source.values())))
        for source, own in sorted(by_source.items()):
            group = (src_lang, tgt_lang, source)
            if len(own) < cfg.min_pairs and len(by_source) > 1:
                pooled = pooled or score_group(rows, everything, (src_lang, tgt_lang), cfg, seed)
                found = _part(pooled, np.searchsorted(everything, own))
            else:
                found = score_group(rows, own, (src_lang, tgt_lang), cfg, seed)
            columns[:, own] = found[:3]
            calibrations[group] = found.calibration
            entries.append(_entry(group, found, target_noise, found.calibration is pooled_of(pooled)))
    return Scored(_with_scores(table, columns, round_), entries, calibrations)


def pooled_of(pooled: GroupScores | None) -> Calibration | None:
    """The calibration of a language pair's pool, if there is one."""
    return None if pooled is None else pooled.calibration


def _part(scores: GroupScores, at: Int64) -> GroupScores:
    """Some rows of a pool; their noise rate is what their confidences say."""
    noise = float(scores.noise_N[at].mean())
    spread = scores.noise[2] - scores.noise[1]
    interval = (noise, max(0.0, noise - spread / 2), min(1.0, noise + spread / 2))
    return scores._replace(
        cosine_N=scores.cosine_N[at],
        margin_N=scores.margin_N[at],
        confidence_N=scores.confidence_N[at],
        noise_N=scores.noise_N[at],
        noise=interval,
    )


def _entry(group: Group, found: GroupScores, target_noise: float, pooled: bool) -> AuditEntry:
    calibration = found.calibration
    # Where the noise rate is only assumed, no expected noise can be promised: keep what is
    # more likely right than wrong, and let the rounds decide.
    target = target_noise if calibration.stable else 1.0
    threshold = cut_for(found.confidence_N, target, found.noise_N)
    kept_N = found.confidence_N >= np.float32(threshold)
    expected = float(found.noise_N[kept_N].mean()) if kept_N.any() else None
    notes = [calibration.note] if calibration.note else []
    notes += [POOLED_NOTE] if pooled else []
    for name, rate in (found.whole.rates if found.whole else {}).items():
        if rate.low > NOTED_RATE:
            notes.append(f"{name}: {rate.value:.1%} of the pairs ({rate.low:.1%} to {rate.high:.1%})")
    if calibration.stable and expected is not None and expected > target_noise:
        notes.append(f"no threshold reaches the target noise {target_noise}")
    return AuditEntry(
        *group,
        pairs=len(kept_N),
        kept=int(kept_N.sum()),
        noise_estimated=found.noise[0],
        noise_low=found.noise[1],
        noise_high=found.noise[2],
        threshold=threshold,
        expected_noise_kept=expected,
        predicted_precision=None,
        stable=calibration.stable,
        note="; ".join(notes),
        histogram=calibration.chart(threshold),
    )


def _groups(table: pa.Table) -> dict[tuple[str, str], dict[str, Int64]]:
    found: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    columns = (table[name].to_pylist() for name in ("src_lang", "tgt_lang", "source"))
    for row, (src_lang, tgt_lang, source) in enumerate(zip(*columns, strict=True)):
        found[src_lang, tgt_lang][source].append(row)
    return {
        langs: {source: np.array(rows, np.int64) for source, rows in by_source.items()}
        for langs, by_source in found.items()
    }


def _with_scores(table: pa.Table, columns: npt.NDArray[np.float32], round_: int) -> pa.Table:
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
