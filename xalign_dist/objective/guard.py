"""Stops a run whose embeddings fall together, and says what it saw."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from xalign_dist.errors import TrainingError

_log = logging.getLogger(__name__)

#: Above this mean similarity of unrelated texts, with less than this spread, a space says nothing:
#: measured values of healthy encoders are 0.70-0.85 and 0.03-0.06 (e5), 0.0-0.3 and 0.1 (trained here).
COLLAPSED_SIMILARITY = 0.995
COLLAPSED_SPREAD = 2e-3


class CollapseGuard:
    """Watches the trace of each step: a warning at the first collapsed one, an error after ``patience``.

    Collapse: all texts get nearly the same vector. An encoder may start there (random weights) and
    leave, hence the patience.
    """

    def __init__(self, patience: int = 20) -> None:
        """``patience`` collapsed steps in a row are borne."""
        self.patience = patience
        self._collapsed = 0

    def check(self, step: int, trace: Mapping[str, float]) -> None:
        """Judge one step by ``off_diagonal``, ``spread`` and ``uniformity``.

        Raises:
            TrainingError: ``patience`` steps in a row were collapsed.
        """
        if trace["off_diagonal"] < COLLAPSED_SIMILARITY or trace["spread"] > COLLAPSED_SPREAD:
            self._collapsed = 0
            return
        self._collapsed += 1
        seen = (
            f"step {step}: embeddings have collapsed: unrelated texts have mean similarity "
            f"{trace['off_diagonal']:.4f} with spread {trace['spread']:.1e} (uniformity "
            f"{trace['uniformity']:.3f}, in-batch accuracy {trace['accuracy']:.2f})"
        )
        if self._collapsed >= self.patience:
            raise TrainingError(
                f"{seen}, for {self._collapsed} steps in a row",
                "lower training.learning_rate or objective.adversary.weight; check that the pairs are "
                "not all copies of a few texts",
            )
        if self._collapsed == 1:
            _log.warning("%s; stopping after %d such steps", seen, self.patience)
