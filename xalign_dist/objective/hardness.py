"""Weights on negatives: the hard ones count more."""

from __future__ import annotations

import torch
from torch import Tensor

from xalign_dist.config.model import HardnessConfig


@torch.no_grad()
def log_negative_weights(sim_BG: Tensor, negative_BG: Tensor, config: HardnessConfig) -> Tensor | None:
    """log w_ij with w_ij = exp(beta s_ij) / mean over row i's negatives of exp(beta s_ij).

    Robinson et al. 2021, "Contrastive learning with hard negative samples", equation 4: importance
    weights of mean 1, so that the total weight of the negatives does not change. Added to the logits.

    Args:
        sim_BG: cosine similarities of B rows to G columns.
        negative_BG: True where the column is a negative of the row.
        config: ``beta``, and the switch.

    Returns:
        float ``[B, G]``, 0 outside the negatives; None when switched off. No gradient.
    """
    if not config.enabled or config.beta == 0:
        return None
    scaled_BG = (config.beta * sim_BG).masked_fill(~negative_BG, float("-inf"))
    count_B1 = negative_BG.sum(dim=1, keepdim=True).clamp_min(1)
    log_mean_B1 = torch.logsumexp(scaled_BG, dim=1, keepdim=True) - count_B1.log()
    return torch.where(negative_BG, scaled_BG - log_mean_B1, torch.zeros_like(sim_BG))
