"""The temperature of the contrastive loss, moved by progress and by the batch's similarities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xalign_dist.config.model import TemperatureConfig
from xalign_dist.objective.smoothing import ExponentialMean


class DynamicTemperature(nn.Module):
    """tau = clamp( base(p) * g(gap), min, max ), paper 2.3, equation of tau(t, batch).

    - ``base(p) = start^(1-p) * end^p``: from soft to sharp with progress p in [0, 1], geometric because
      the temperature acts as a factor.
    - ``g = exp(-s * z)``, ``z = tanh(gap / spread)``: gap is the smoothed mean of s_ii minus the hardest
      negative, spread the smoothed standard deviation of the negatives' similarities, so z has no unit
      and lies in (-1, 1). While positives lose against their hardest negatives (z < 0) tau rises: the
      gradient spreads over many negatives. Once they win, tau falls and the hard ones are singled out.

    No gradient flows through tau: it would be lowered just to lower the loss.
    """

    def __init__(self, config: TemperatureConfig) -> None:
        super().__init__()
        self.config = config
        self.gap = ExponentialMean(config.smoothing)
        self.spread = ExponentialMean(config.smoothing)

    def observe(self, gap: Tensor, spread: Tensor) -> None:
        """Take in the global batch's gap and spread (scalars)."""
        self.gap.update(gap)
        self.spread.update(spread)

    def forward(self, progress: float) -> Tensor | float:
        """Tau at ``progress`` in [0, 1]: a scalar tensor without gradient; a float where it is fixed."""
        c = self.config
        if not c.enabled:
            return c.fixed
        base = c.start ** (1.0 - progress) * c.end**progress
        z = torch.tanh(self.gap.value / self.spread.value.clamp_min(1e-6))
        tau: Tensor = (base * torch.exp(-c.sensitivity * z)).clamp(c.minimum, c.maximum)
        return tau.float()
