"""An exponential mean that is a true mean of what it saw from the first value on."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ExponentialMean(nn.Module):
    """m_t = (1 - b) sum_k b^(t-k) v_k / (1 - b^t): the debiased mean of Adam (Kingma & Ba 2015).

    Kept in float64 in ``state_dict``, so that a resumed run goes on with the same bits.
    """

    total: Tensor
    weight: Tensor

    def __init__(self, smoothing: float) -> None:
        """``smoothing`` b in [0, 1): weight of the past."""
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("total", torch.zeros((), dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, value: Tensor) -> None:
        """Take in one scalar. A non-finite one is left out: it would stay in the mean for ever."""
        b = self.smoothing
        seen = value.detach().to(self.total)
        finite = torch.isfinite(seen)
        self.total.copy_(torch.where(finite, b * self.total + (1 - b) * seen, self.total))
        self.weight.copy_(torch.where(finite, b * self.weight + (1 - b), self.weight))

    @property
    def value(self) -> Tensor:
        """The mean, float64 scalar; 0 before the first value."""
        return self.total / self.weight.clamp_min(torch.finfo(torch.float64).tiny)
