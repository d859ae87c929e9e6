"""Parallel pairs in; the same pairs with cosine, margin and confidence out, and what was found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xalign_dist.config import ScoringConfig
from xalign_dist.errors import DataError
from xalign_dist.records import ORIGIN_PARALLEL, PAIR, SCORED_PAIR, EmbedFn, Float32, Int64, text_keys
from xalign_dist.scoring.audit import AuditEntry
from xalign_dist.scoring.calibrate import Calibration, calibrate, cut_for, weigh_null
from xalign_dist.scoring.decoys import random_decoys
from xalign_dist.scoring.features import Features, pair_features
from xalign_dist.scoring.histogram import Evidence
from xalign_dist.scoring.similarity import Neighbourhood, check_pairs, equal_blocks

Group = tuple[str, str, str]

POOLED_NOTE = "too few pairs of this source: calibrated with all sources of the language pair"


class GroupScores(NamedTuple):
    """One group of rows, scored. Arrays ``[N]`` over the group's rows."""

    cosine_N: Float32
    margin_N: Float32
    confidence_N: Float32
    noise: tuple[float, float, float]
    calibration: Calibration


class Scored(NamedTuple):
    """``SCORED_PAIR`` rows in the order given, one audit entry and one calibration per group."""

    pairs: pa.Table
    entries: list[AuditEntry]
    calibrations: dict[Group, Calibration]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The columns that scoring looks at."""

    src: Sequence[str]
    tgt: Sequence[str]
    src_ND: Float32
    tgt_ND: Float32
    src_key_N: Int64
    tgt_key_N: Int64


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
    rows = _Rows(src, tgt, src_ND, tgt_ND, text_keys(src), text_keys(tgt))
    columns = np.zeros((3, table.num_rows), np.float32)
    entries, calibrations = [], {}
    for (src_lang, tgt_lang), by_source in sorted(_groups(table).items()):
        pooled: GroupScores | None = None
        everything = np.sort(np.concatenate(list(by_source.values())))
        for source, own in sorted(by_source.items()):
            group = (src_lang, tgt_lang, source)
            if len(own) < cfg.min_pairs and len(by_source) > 1:
                pooled = pooled or _score_group(rows, everything, tgt_lang, cfg, seed)
                found = _part(pooled, np.searchsorted(everything, own))
            else:
                found = _score_group(rows, own, tgt_lang, cfg, seed)
            columns[:, own] = found[:3]
            calibrations[group] = found.calibration
            entries.append(_entry(group, found, target_noise, found.calibration is pooled_of(pooled)))
    return Scored(_with_scores(table, columns, round_), entries, calibrations)


def pooled_of(pooled: GroupScores | None) -> Calibration | None:
    """The calibration of a language pair's pool, if there is one."""
    return None if pooled is None else pooled.calibration


def _score_group(rows: _Rows, own_N: Int64, tgt_lang: str, cfg: ScoringConfig, seed: int) -> GroupScores:
    """Margins block by block, evidence merged over the blocks, confidence, features."""
    rng = np.random.default_rng([seed, len(own_N)])
    features = pair_features([rows.src[i] for i in own_N], [rows.tgt[i] for i in own_N], tgt_lang)
    cosine_N, margin_N = np.zeros(len(own_N), np.float32), np.zeros(len(own_N), np.float32)
    parts = []
    # Shuffled, so that a block is a sample of the corpus and not one document.
    order = rng.permutation(len(own_N))
    for block in equal_blocks(len(own_N), cfg.block_rows):
        at = order[block]
        near = Neighbourhood(rows.src_ND[own_N[at]], rows.tgt_ND[own_N[at]], cfg.neighbours)
        every = np.arange(len(at))
        cosine_N[at], margin_N[at] = near.scores(every, every)
        parts.append(_evidence(rows, own_N[at], near, margin_N[at], ~features.copy_N[at], cfg, rng))
    calibration = calibrate(Evidence.merge(parts), cfg.bins, cfg.min_pairs, cfg.prior_noise, rng)
    confidence_N = calibration.confidence(margin_N) * features.factor()
    return GroupScores(cosine_N, margin_N, confidence_N, _noise(calibration, features), calibration)


def _evidence(
    rows: _Rows,
    own_N: Int64,
    near: Neighbourhood,
    margin_N: Float32,
    usable_N: npt.NDArray[np.bool_],
    cfg: ScoringConfig,
    rng: np.random.Generator,
) -> Evidence:
    """Evidence of one block. Copies are judged by their text alone and stay out of it."""
    use = np.flatnonzero(usable_N)
    i, j = random_decoys(rows.src_key_N[own_N[use]], rows.tgt_key_N[own_N[use]], cfg.decoys_per_pair, rng)
    decoy_M = near.scores(use[i], use[j]).margin_N
    return weigh_null(margin_N[use], decoy_M, (i, j), cfg.bins)


def _noise(calibration: Calibration, features: Features) -> tuple[float, float, float]:
    """Noise rate and interval of a group: copies, and the calibrated share of the rest."""
    copies = float(features.copy_N.mean()) if len(features.copy_N) else 0.0
    rates = (calibration.pi0, calibration.low, calibration.high)
    found = [copies + (1 - copies) * rate for rate in rates]
    return found[0], found[1], found[2]


def _part(scores: GroupScores, at: Int64) -> GroupScores:
    """Some rows of a pool; their noise rate is what their confidences say."""
    confidence_N = scores.confidence_N[at]
    noise = float(1 - confidence_N.mean())
    spread = scores.noise[2] - scores.noise[1]
    interval = (noise, max(0.0, noise - spread / 2), min(1.0, noise + spread / 2))
    return GroupScores(scores.cosine_N[at], scores.margin_N[at], confidence_N, interval, scores.calibration)


def _entry(group: Group, found: GroupScores, target_noise: float, pooled: bool) -> AuditEntry:
    calibration = found.calibration
    # Where the noise rate is only assumed, no expected noise can be promised: keep what is
    # more likely right than wrong, and let the rounds decide.
    threshold = cut_for(found.confidence_N, target_noise if calibration.stable else 1.0)
    kept_N = found.confidence_N >= np.float32(threshold)
    expected = float(1 - found.confidence_N[kept_N].mean()) if kept_N.any() else None
    notes = [calibration.note] if calibration.note else []
    notes += [POOLED_NOTE] if pooled else []
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
