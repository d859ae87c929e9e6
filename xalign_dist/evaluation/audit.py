"""The noise audit against known labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Bool, Float64


class AuditScores(NamedTuple):
    """Shares: noise as estimated, noise in truth, clean pairs that survive, noise among the kept."""

    noise_estimated: float
    noise_true: float
    kept_clean: float
    noise_left: float
    n: int


def audit_scores(
    confidence_N: Sequence[float] | Float64,
    noise_N: Sequence[bool] | Bool,
    noise_estimated: float | None = None,
    threshold: float = 0.5,
) -> AuditScores:
    """What filtering at ``threshold`` does to pairs whose state is known.

    Args:
        confidence_N: confidence of each pair in [0, 1].
        noise_N: True where the pair is known not to be a translation.
        noise_estimated: the audit's estimate. None: ``1 - mean(confidence)``, which is what
            calibrated confidences say.
        threshold: pairs strictly above are kept.

    Returns:
        Scores; NaN where a share has no members (no clean pair, nothing kept).

    Raises:
        DataError: no pairs, or columns of unequal length.
    """
    confidence, noise = np.asarray(confidence_N, np.float64), np.asarray(noise_N, np.bool_)
    if confidence.shape != noise.shape or not len(confidence):
        raise DataError(
            f"audit of {len(confidence)} confidences and {len(noise)} labels", "give one label for each pair"
        )
    kept = confidence > threshold
    clean = ~noise
    return AuditScores(
        noise_estimated=1 - float(confidence.mean()) if noise_estimated is None else noise_estimated,
        noise_true=float(noise.mean()),
        kept_clean=float(kept[clean].mean()) if clean.any() else float("nan"),
        noise_left=float(noise[kept].mean()) if kept.any() else float("nan"),
        n=len(noise),
    )
