"""What the measurements of a group mean: its noise rate, and the confidence of each of its pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xalign_dist.config import ScoringConfig
from xalign_dist.records import Float32
from xalign_dist.scoring.calibrate import Calibration, calibrate, cut_for
from xalign_dist.scoring.histogram import Evidence, Seen
from xalign_dist.scoring.partial import Partial, partial_translations
from xalign_dist.scoring.traits import traits
from xalign_dist.scoring.yardstick import Measured, Rows, Yardstick

Interval = tuple[float, float, float]


class Labels(NamedTuple):
    """Of N pairs, float32 ``[N]`` each.

    ``noise_N`` is the probability that a pair is noise of the kind that the noise rate counts
    (mismatched, copied, another language); what may be partial lowers ``confidence_N`` alone.
    """

    confidence_N: Float32
    noise_N: Float32


@dataclass(frozen=True, slots=True)
class Judge:
    """One calibrated group: labels any of its pairs.

    Attributes:
        calibration: of margins.
        whole: of near misses; None: too few pairs, or near misses are off.
        noise: estimated noise rate, and its 95 % interval.
    """

    calibration: Calibration
    whole: Partial | None
    noise: Interval

    def label(self, src: Sequence[str], tgt: Sequence[str], measured: Measured) -> Labels:
        """Confidence = P(no mismatch) * P(whole translation) * what the text alone leaves."""
        features = measured.features
        sound_N = self.calibration.confidence(measured.margin_N) * features.hard_factor()
        if self.whole is None:
            soft_N = features.soft_factor()
        else:
            soft_N = self.whole.confidence(measured.cosine_N, traits(src), traits(tgt))
        return Labels(sound_N * soft_N, 1 - sound_N)

    def threshold(self, rows: Rows, measured: Measured, target_noise: float) -> float:
        """Least confidence to keep, by a sample of the pairs that it is for."""
        found = self.label(rows.src, rows.tgt, measured)
        # Where the noise rate is only assumed, no expected noise can be promised: keep what is
        # more likely right than wrong, and let the rounds decide.
        target = target_noise if self.calibration.stable else 1.0
        return cut_for(found.confidence_N, target, found.noise_N)


def judge(yard: Yardstick, seen: Seen, cfg: ScoringConfig, seed: int) -> Judge:
    """Calibrate a group.

    Args:
        yard: its sample.
        seen: all of its pairs, counted and merged; the sample's own counts do where that is all.
        cfg: ``scoring`` of the config.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng([seed, len(yard.rows.src), 2])
    evidence = Evidence(seen.observed, yard.null.null, yard.null.null_rows)
    calibration = calibrate(evidence, cfg.bins, cfg.min_pairs, cfg.prior_noise, rng)
    features = yard.measured.features
    matched_N = calibration.confidence(yard.measured.margin_N).astype(np.float64)
    whole = partial_translations(
        traits(yard.rows.src),
        traits(yard.rows.tgt),
        yard.measured.cosine_N,
        np.where(features.wrong_N, 0.0, matched_N),
        yard.misses,
        cfg,
        rng,
    )
    # What the text condemns, and the mismatched of the rest.
    wrong = seen.wrong / max(1.0, seen.wrong + seen.observed.total)
    low, high = calibration.low, calibration.high
    found = [wrong + (1 - wrong) * rate for rate in (calibration.pi0, low, high)]
    return Judge(calibration, whole, (found[0], found[1], found[2]))
