"""Margins as counts in fixed bins: shards add up, and no stage needs the corpus in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

BINS = 8192
LOW, HIGH = -1.0, 3.0
_WIDTH = (HIGH - LOW) / BINS


def bin_of(values_N: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Bin of each value, int64 ``[N]``; values beyond [-1, 3) fall into the outermost bins."""
    scaled = (np.asarray(values_N, np.float64) - LOW) / _WIDTH
    return np.clip(scaled, 0, BINS - 1).astype(np.int64)


def bin_centres() -> Float64:
    """The middle of every bin, ``[BINS]``."""
    return np.asarray(LOW + _WIDTH * (np.arange(BINS) + 0.5), np.float64)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Weighted counts of margins in :data:`BINS` bins over [-1, 3), the same for every corpus."""

    counts: Float64 = field(default_factory=lambda: np.zeros(BINS))

    @staticmethod
    def of(
        values_N: npt.NDArray[np.floating], weights_N: npt.NDArray[np.floating] | None = None
    ) -> Histogram:
        """Count values, each with weight 1 or its own."""
        return Histogram(np.bincount(bin_of(values_N), weights_N, BINS).astype(np.float64))

    @staticmethod
    def merge(parts: Iterable[Histogram]) -> Histogram:
        """The histogram of all parts together."""
        return Histogram(np.sum([np.zeros(BINS), *(p.counts for p in parts)], axis=0))

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(self.counts.sum())

    def below(self) -> Float64:
        """Share of the weight in each bin and all lower ones, ``[BINS]``; zeros when empty."""
        return np.cumsum(self.counts) / max(self.total, 1e-300)

    def quantile_bins(self, shares: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The first bin at which each share of the weight is reached."""
        return np.minimum(np.searchsorted(self.below(), np.asarray(shares) - 1e-12), BINS - 1)

    def coarse(self, edges: Float64) -> Float64:
        """Counts between ``edges`` (one more than bins), for a plot; what lies beyond is left out."""
        return np.histogram(bin_centres(), edges, weights=self.counts)[0].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What calibration needs from a corpus, or from any part of it.

    Attributes:
        observed: margins of the pairs.
        null: margins of decoys, weighted to the pairs that look like noise; its total is the
            number of such pairs, so that parts with more noise weigh more.
        null_rows: independent rows behind ``null``, for intervals.
    """

    observed: Histogram = field(default_factory=Histogram)
    null: Histogram = field(default_factory=Histogram)
    null_rows: float = 0.0

    @staticmethod
    def merge(parts: Iterable[Evidence]) -> Evidence:
        """The evidence of all parts together, in any order."""
        found = list(parts)
        return Evidence(
            Histogram.merge(p.observed for p in found),
            Histogram.merge(p.null for p in found),
            float(sum(p.null_rows for p in found)),
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """The pairs of a group, or of any part of it, counted.

    Attributes:
        observed: margins of the pairs that their text does not condemn.
        wrong: pairs that it does.
    """

    observed: Histogram = field(default_factory=Histogram)
    wrong: int = 0

    @staticmethod
    def of(margin_N: npt.NDArray[np.floating], wrong: int) -> Seen:
        """Count margins."""
        return Seen(Histogram.of(margin_N), wrong)

    @staticmethod
    def merge(parts: Iterable[Seen]) -> Seen:
        """All parts together, in any order."""
        found = list(parts)
        return Seen(Histogram.merge(p.observed for p in found), sum(p.wrong for p in found))
