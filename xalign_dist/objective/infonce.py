"""InfoNCE over one direction, with weighted and masked negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    sim_BG: Tensor,
    target_B: Tensor,
    tau: Tensor | float,
    masked_BG: Tensor | None = None,
    log_weight_BG: Tensor | None = None,
) -> Tensor:
    """l_i = -log( e^(s_ii/tau) / ( e^(s_ii/tau) + sum over negatives j of w_ij e^(s_ij/tau) ) ).

    van den Oord et al. 2018, with negatives from every rank (all G columns). Without mask and weights
    it is exactly ``cross_entropy(sim / tau, target)``.

    Args:
        sim_BG: cosine similarities of this rank's rows to all columns.
        target_B: column of each row's positive, int64.
        tau: temperature, scalar.
        masked_BG: True where the column is left out; must be False at the positives.
        log_weight_BG: log w_ij, 0 at the positives.

    Returns:
        The loss of each row, float ``[B]``.
    """
    logit_BG = sim_BG / tau
    if log_weight_BG is not None:
        logit_BG = logit_BG + log_weight_BG
    if masked_BG is not None:
        logit_BG = logit_BG.masked_fill(masked_BG, float("-inf"))
    return F.cross_entropy(logit_BG, target_B, reduction="none")


@torch.no_grad()
def effective_negatives(
    sim_BG: Tensor, negative_BG: Tensor, tau: Tensor | float, log_weight_BG: Tensor | None
) -> Tensor:
    """How many negatives carry the gradient: 1 / sum p_ij^2 over the row's negatives, float ``[B]``.

    p is the softmax over the negatives alone: G - 1 when all weigh the same, 1 when one takes all,
    0 where a row has no negative.
    """
    logit_BG = sim_BG / tau
    if log_weight_BG is not None:
        logit_BG = logit_BG + log_weight_BG
    p_BG = torch.softmax(logit_BG.masked_fill(~negative_BG, float("-inf")), dim=1).nan_to_num(0.0)
    square_B = p_BG.square().sum(dim=1)
    return torch.where(square_B > 0, 1.0 / square_B.clamp_min(1e-12), torch.zeros_like(square_B))
