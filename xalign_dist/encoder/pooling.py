"""From token states to one vector a text."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "cls", "last"]


def pool(states_BTD: Tensor, mask_BT: Tensor, how: Pooling) -> Tensor:
    """One vector a row, ``[B, D]``, not yet unit length.

    mean: over the unmasked tokens. cls: the first unmasked token. last: the last unmasked
    token (decoders). Either side may be padded.
    """
    if how == "mean":
        weight_BT1 = mask_BT.unsqueeze(-1).to(states_BTD.dtype)
        return (states_BTD * weight_BT1).sum(1) / weight_BT1.sum(1).clamp(min=1)
    positions_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    if how == "cls":
        at_B = torch.where(mask_BT.bool(), positions_T, mask_BT.shape[1]).amin(1)
        at_B = at_B.clamp(max=mask_BT.shape[1] - 1)
    else:
        at_B = torch.where(mask_BT.bool(), positions_T, -1).amax(1).clamp(min=0)
    return states_BTD[torch.arange(len(states_BTD), device=states_BTD.device), at_B]
