"""Tells a training that diverges, most often by its learning rate, from one that learns slowly."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from xalign_dist.config.model import TrainingConfig
from xalign_dist.errors import TrainingError

_log = logging.getLogger(__name__)

#: Steps whose medians are judged, and the first steps whose median is the start.
WINDOW, START = 20, 5
#: The loss has risen far: above twice its best and by this much beyond it (nats).
RISE = 1.0
#: The encoder has lost what it knew: below this share of its best in-batch accuracy.
LOST = 0.25


class DivergenceGuard:
    """Watches loss and in-batch accuracy over a window; ``training.divergence`` says what follows.

    Diverged is a window of :data:`WINDOW` steps whose median loss is above ``2 * best + RISE``, or is above
    the best while the accuracy A is below :data:`LOST` of its own best. Best is the best window so far, or
    the first :data:`START` steps. A counts only once it was four times what chance gives (1 / batch).

    Measured, e5-small with 2 layers, batch 32: rates of 3e-4 and 3e-3 learn (loss 1.1 to 0.02); 3e-2
    (loss 1.1 to 2.7, A 0.88 to 0.08) and 3e-1 (loss 3.5, A 0.04) lose all within 20 steps. The loss
    alone does not tell: an encoder that starts badly falls to the plateau on which a good one ends.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self._warned = False
        self._begin(float("nan"))

    def _begin(self, stage: float) -> None:
        self._stage = stage
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._accuracies: deque[float] = deque(maxlen=WINDOW)
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self._steps = 0
        self._best_loss, self._best_accuracy, self._first_norm = float("inf"), 0.0, float("nan")

    def state(self) -> dict[str, Any]:
        """What it has seen, as plain figures for a checkpoint (JSON with NaN and Infinity)."""
        windows = {"losses": self._losses, "accuracies": self._accuracies, "norms": self._norms}
        return {name: list(values) for name, values in windows.items()} | {
            "stage": self._stage,
            "steps": self._steps,
            "best_loss": self._best_loss,
            "best_accuracy": self._best_accuracy,
            "first_norm": self._first_norm,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`: begun anew, a diverged training would be its own best."""
        self._begin(state["stage"])
        self._losses.extend(state["losses"])
        self._accuracies.extend(state["accuracies"])
        self._norms.extend(state["norms"])
        self._steps, self._first_norm = state["steps"], state["first_norm"]
        self._best_loss, self._best_accuracy = state["best_loss"], state["best_accuracy"]

    def check(self, step: int, loss: float, norm: float, rate: float, trace: Mapping[str, float]) -> None:
        """Take in one finished step.

        Args:
            step: steps done.
            loss: of the global batch, finite.
            norm: of its gradient, before clipping.
            rate: learning rate of the step.
            trace: holds ``accuracy``, the smoothed A, and ``lambda_C``: when that changes, the loss is
                another one, and the guard begins anew.

        Raises:
            TrainingError: training has diverged and ``training.divergence`` is stop.
        """
        if self.config.divergence == "ignore":
            return
        if trace["lambda_C"] != self._stage:
            self._begin(trace["lambda_C"])
        self._steps += 1
        for values, value in zip(
            (self._losses, self._accuracies, self._norms), (loss, trace["accuracy"], norm), strict=True
        ):
            values.append(value)
        if self._steps == START:
            self._best_loss, self._first_norm = median(self._losses), median(self._norms)
        self._best_accuracy = max(self._best_accuracy, trace["accuracy"])
        if self._steps < WINDOW or self._warned:
            return
        now, accuracy = median(self._losses), median(self._accuracies)
        learned = self._best_accuracy >= 4 / self.config.batch_pairs
        lost = learned and accuracy < LOST * self._best_accuracy and now > self._best_loss
        if now > 2 * self._best_loss + RISE or lost:
            self._diverged(step, now, accuracy, rate)
        self._best_loss = min(self._best_loss, now)

    def _diverged(self, step: int, loss: float, accuracy: float, rate: float) -> None:
        problem = (
            f"step {step}: training diverges: over the last {WINDOW} steps the loss is {loss:.3g} (best "
            f"{self._best_loss:.3g}), in-batch accuracy {accuracy:.2f} (best {self._best_accuracy:.2f}), "
            f"gradient norm {median(self._norms):.3g} (first {self._first_norm:.3g}); the learning rate "
            f"is {rate:.2g} of a peak of {self.config.learning_rate:.2g}"
        )
        remedy = (
            f"lower training.learning_rate to {self.config.learning_rate / 10:.1g} or raise "
            "training.warmup_share, in a new --out"
        )
        if self.config.divergence == "stop":
            raise TrainingError(problem, f"{remedy}; training.divergence=warn goes on all the same")
        self._warned = True
        _log.warning("%s; %s", problem, remedy)
