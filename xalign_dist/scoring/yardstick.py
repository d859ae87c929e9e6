"""The yardstick of a group: a sample of its pairs, against which every pair of it is measured.

Neighbours, decoys and near misses come from the sample alone, so that a pair's margin does not
depend on what else is scored beside it, and a group may have any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xalign_dist.config import ScoringConfig
from xalign_dist.records import Float32, text_keys
from xalign_dist.scoring.calibrate import weigh_null
from xalign_dist.scoring.decoys import random_decoys
from xalign_dist.scoring.features import Features, Usual, pair_features, usual_features
from xalign_dist.scoring.histogram import Evidence, Seen
from xalign_dist.scoring.near_miss import NearMisses, near_misses
from xalign_dist.scoring.similarity import Neighbourhood


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns that scoring looks at: N texts a side, and their unit vectors ``[N, D]``."""

    src: Sequence[str]
    tgt: Sequence[str]
    src_ND: Float32
    tgt_ND: Float32


class Measured(NamedTuple):
    """What is known of N pairs before anything is calibrated."""

    cosine_N: Float32
    margin_N: Float32
    features: Features

    def seen(self) -> Seen:
        """Counted, for calibration."""
        wrong_N = self.features.wrong_N
        return Seen.of(self.margin_N[~wrong_N], int(wrong_N.sum()))


@dataclass(frozen=True)
class Yardstick:
    """One group's sample, and what was found on it. ``null`` is the evidence of the sample alone.

    Attributes:
        langs: ISO 639-3 of source and target.
        rows: of the sample.
        near: neighbours among the sample.
        usual: what is no fault in this group.
        measured: of the sample.
        null: margins of the sample and of its decoys.
        misses: near misses of some of the sample's rows.
    """

    langs: tuple[str, str]
    rows: Rows
    near: Neighbourhood
    usual: Usual
    measured: Measured
    null: Evidence
    misses: NearMisses

    @staticmethod
    def of(rows: Rows, langs: tuple[str, str], cfg: ScoringConfig, seed: int) -> Yardstick:
        """Make the yardstick of a sample.

        Raises:
            DataError: vectors that are not of unit length.
        """
        count = len(rows.src)
        rng = np.random.default_rng([seed, count])
        near_rng = np.random.default_rng([seed, count, 1])
        near = Neighbourhood(rows.src_ND, rows.tgt_ND, cfg.neighbours)
        usual = usual_features(rows.src, rows.tgt, langs[1], langs[0])
        features = pair_features(rows.src, rows.tgt, langs[1], langs[0], usual)
        every = np.arange(count)
        measured = Measured(*near.scores(every, every), features)
        fair = np.flatnonzero(~features.wrong_N)
        i, j = random_decoys(
            text_keys([rows.src[int(n)] for n in fair]),
            text_keys([rows.tgt[int(n)] for n in fair]),
            cfg.decoys_per_pair,
            rng,
        )
        decoy_M = near.scores(fair[i], fair[j]).margin_N
        null = weigh_null(measured.margin_N[fair], decoy_M, (i, j), cfg.bins)
        used = near_rng.permutation(fair)[: cfg.near_misses]
        misses = near_misses(rows.src, rows.tgt, near, used, near_rng)
        return Yardstick(langs, rows, near, usual, measured, null, misses)

    def measure(self, rows: Rows) -> Measured:
        """Cosine, margin and features of any pairs of the group."""
        scores = self.near.of_pairs(rows.src_ND, rows.tgt_ND)
        features = pair_features(rows.src, rows.tgt, self.langs[1], self.langs[0], self.usual)
        return Measured(scores.cosine_N, scores.margin_N, features)
