"""One group of pairs: margins block by block, then what random and near-miss decoys say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xalign_dist.config import ScoringConfig
from xalign_dist.records import Float32, Int64
from xalign_dist.scoring.calibrate import Calibration, calibrate, weigh_null
from xalign_dist.scoring.decoys import random_decoys
from xalign_dist.scoring.features import Features, pair_features
from xalign_dist.scoring.histogram import Evidence
from xalign_dist.scoring.near_miss import NearMisses, near_misses
from xalign_dist.scoring.partial import Partial, partial_translations
from xalign_dist.scoring.similarity import Neighbourhood, equal_blocks

Interval = tuple[float, float, float]


class GroupScores(NamedTuple):
    """One group of rows, scored. Arrays ``[N]`` over the group's rows.

    ``noise_N`` is the probability that a pair is noise of the kind that ``noise`` counts (mismatched,
    copied, another language); what may be partial lowers ``confidence_N`` alone.
    """

    cosine_N: Float32
    margin_N: Float32
    confidence_N: Float32
    noise_N: Float32
    noise: Interval
    calibration: Calibration
    whole: Partial | None


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns that scoring looks at."""

    src: Sequence[str]
    tgt: Sequence[str]
    src_ND: Float32
    tgt_ND: Float32
    src_key_N: Int64
    tgt_key_N: Int64

    def take(self, own_N: Int64) -> Rows:
        """Some of the rows."""
        return Rows(
            [self.src[i] for i in own_N],
            [self.tgt[i] for i in own_N],
            self.src_ND[own_N],
            self.tgt_ND[own_N],
            self.src_key_N[own_N],
            self.tgt_key_N[own_N],
        )


def score_group(
    every: Rows, own_N: Int64, langs: tuple[str, str], cfg: ScoringConfig, seed: int
) -> GroupScores:
    """Margins block by block, evidence merged over the blocks, confidence.

    confidence = P(no mismatch) * P(whole translation) * what the text alone leaves.
    """
    rng = np.random.default_rng([seed, len(own_N)])
    near_rng = np.random.default_rng([seed, len(own_N), 1])
    rows = every.take(own_N)
    features = pair_features(rows.src, rows.tgt, langs[1], langs[0])
    cosine_N, margin_N = np.zeros(len(own_N), np.float32), np.zeros(len(own_N), np.float32)
    parts: list[Evidence] = []
    misses: list[NearMisses] = []
    # Shuffled, so that a block is a sample of the corpus and not one document.
    order = rng.permutation(len(own_N))
    for block in equal_blocks(len(own_N), cfg.block_rows):
        at = order[block]
        own = rows.take(at)
        near = Neighbourhood(own.src_ND, own.tgt_ND, cfg.neighbours)
        all_rows = np.arange(len(at))
        cosine_N[at], margin_N[at] = near.scores(all_rows, all_rows)
        parts.append(_evidence(own, near, margin_N[at], ~features.wrong_N[at], cfg, rng))
        misses.append(_misses(own, at, near, features.wrong_N[at], cfg.near_misses / len(own_N), near_rng))
    calibration = calibrate(Evidence.merge(parts), cfg.bins, cfg.min_pairs, cfg.prior_noise, rng)
    matched_N = calibration.confidence(margin_N)
    whole = partial_translations(
        rows.src,
        rows.tgt,
        cosine_N,
        np.where(features.wrong_N, 0.0, matched_N.astype(np.float64)),
        NearMisses.merge(misses),
        cfg,
        near_rng,
    )
    soft_N = features.soft_factor() if whole is None else whole.confidence_N
    sound_N = matched_N * features.hard_factor()
    noise = _noise(calibration, features)
    return GroupScores(cosine_N, margin_N, sound_N * soft_N, 1 - sound_N, noise, calibration, whole)


def _evidence(
    rows: Rows,
    near: Neighbourhood,
    margin_N: Float32,
    usable_N: npt.NDArray[np.bool_],
    cfg: ScoringConfig,
    rng: np.random.Generator,
) -> Evidence:
    """Evidence of one block. What its text alone condemns stays out of it."""
    use = np.flatnonzero(usable_N)
    i, j = random_decoys(rows.src_key_N[use], rows.tgt_key_N[use], cfg.decoys_per_pair, rng)
    decoy_M = near.scores(use[i], use[j]).margin_N
    return weigh_null(margin_N[use], decoy_M, (i, j), cfg.bins)


def _misses(
    rows: Rows,
    at: Int64,
    near: Neighbourhood,
    wrong_N: npt.NDArray[np.bool_],
    share: float,
    rng: np.random.Generator,
) -> NearMisses:
    """Near misses of a share of one block's rows, with the rows' places in the group."""
    use = rng.permutation(np.flatnonzero(~wrong_N))
    found = near_misses(rows.src, rows.tgt, near, use[: int(np.ceil(min(1.0, share) * len(wrong_N)))], rng)
    return found._replace(row_M=at[found.row_M])


def _noise(calibration: Calibration, features: Features) -> Interval:
    """Noise rate and interval of a group: what the text condemns, and the mismatched of the rest."""
    wrong = float(features.wrong_N.mean()) if len(features.wrong_N) else 0.0
    found = [wrong + (1 - wrong) * rate for rate in (calibration.pi0, calibration.low, calibration.high)]
    return found[0], found[1], found[2]
