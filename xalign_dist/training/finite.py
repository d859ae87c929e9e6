"""Steps whose loss or gradient is not finite: stopped or left out by config, never silent."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch import Tensor

from xalign_dist.batches.batch import Batch
from xalign_dist.config.model import TrainingConfig
from xalign_dist.errors import TrainingError
from xalign_dist.objective import LossOutput
from xalign_dist.objective.gather import Rows, gather_rows, max_over_ranks

_log = logging.getLogger(__name__)

#: So many steps left out in a row end the run. A loss scale of fp16 (it starts at 65,536 and is halved at
#: each of them) is at 1 after 17.
PATIENCE = 50


class FiniteGuard:
    """Judges each step twice: loss and gradient at the embeddings, then the norm of the parameters' gradient.

    ``training.non_finite=stop`` raises at the first fault; ``skip`` leaves such steps out with a warning,
    :data:`PATIENCE` in a row at most. With fp16 a norm that is not finite is how its loss scale is
    found, and always left out.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self._in_a_row = 0
        self._wrong_N: Tensor | None = None

    def look(self, unit_ND: Tensor) -> None:
        """Note which embeddings ``[2B, D]`` of a batch (sources, then targets) are not finite."""
        self._wrong_N = ~torch.isfinite(unit_ND).all(dim=1)

    def accept(self, batch: Batch, out: LossOutput, gradient_ND: Tensor) -> bool:
        """Whether loss and gradient are finite on every rank; all ranks give the same answer.

        Raises:
            TrainingError: they are not, and the config says stop, or it was so too often.
        """
        fine = bool(torch.isfinite(out.loss) & torch.isfinite(gradient_ND).all())
        if not max_over_ranks(int(not fine), gradient_ND.device):
            return True
        problem = f"loss {out.trace['loss']} or its gradient is not finite"
        self._skip(batch, f"{problem} ({self._culprits(batch, gradient_ND)})", expected=False)
        return False

    def _culprits(self, batch: Batch, gradient_ND: Tensor) -> str:
        """The rows of any rank that are to blame; all ranks ask and get the same answer.

        One text without a finite vector makes the whole batch's gradient not finite, so vectors come first.
        """
        wrong_N = ~torch.isfinite(gradient_ND).all(dim=1)
        for what, mask_N in (("vector", self._wrong_N), ("gradient", wrong_N)):
            if mask_N is None:
                continue
            src_B, tgt_B = mask_N.chunk(2)
            rows_B = torch.from_numpy(np.ascontiguousarray(batch.rows_B)).to(gradient_ND.device)
            wrong = rows_B[src_B | tgt_B]
            shares = Rows.of(len(wrong), gradient_ND.device)
            if shares.total:
                rows = _listed(gather_rows(wrong, shares).tolist())
                return f"training rows {rows}: no finite {what}"
        return "the gradient of every row is finite"

    def updated(self, batch: Batch, norm: float) -> bool:
        """Whether the update was made: engines leave it out where the norm is not finite.

        Raises:
            TrainingError: as :meth:`accept`.
        """
        if math.isfinite(norm):
            self._in_a_row = 0
            return True
        rows = _listed(batch.rows_B.tolist())
        problem = f"the gradient's norm is {norm}, though the loss is finite (training rows {rows})"
        self._skip(batch, problem, expected=self.config.precision == "fp16")
        return False

    def _skip(self, batch: Batch, what: str, expected: bool) -> None:
        self._in_a_row += 1
        problem = f"step {batch.step + 1}: {what}"
        if self._in_a_row >= PATIENCE:
            raise TrainingError(
                f"{problem}; {self._in_a_row} steps in a row were left out",
                "lower training.learning_rate, or use training.precision=bf16 or fp32",
            )
        if expected:
            _log.info("%s; step skipped, the loss scale is halved", problem)
        elif self.config.non_finite == "skip":
            _log.warning("%s; step skipped", problem)
        else:
            raise TrainingError(
                problem,
                "look at these rows, lower training.learning_rate or use training.precision=fp32; "
                "training.non_finite=skip leaves such steps out",
            )


def _listed(rows: list[int]) -> str:
    return ", ".join(str(row) for row in rows[:8]) + (", ..." if len(rows) > 8 else "")
