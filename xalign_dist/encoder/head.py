"""The projection after pooling (paper 2.1): none, one matrix, or two with GELU between."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal as keep_orthogonal

from xalign_dist.errors import ConfigError

Projection = Literal["none", "linear", "mlp"]


def build_head(
    kind: Projection, in_dim: int, out_dim: int | None, orthogonal: bool = False
) -> nn.Sequential | None:
    """The head as a Sequential of Linear and GELU, or None.

    A square linear head starts as the identity, so that before training it changes nothing.
    ``orthogonal`` keeps the matrix orthogonal throughout training, which preserves angles.

    Raises:
        ConfigError: ``orthogonal`` without a linear head, or widening.
    """
    if kind == "none":
        return None
    out = out_dim or in_dim
    if orthogonal and (kind != "linear" or out > in_dim):
        raise ConfigError(
            "encoder.orthogonal needs a linear projection that does not widen",
            "set encoder.projection=linear and projection_dim <= the backbone's width",
        )
    if kind == "mlp":
        return nn.Sequential(nn.Linear(in_dim, in_dim), nn.GELU(), nn.Linear(in_dim, out))
    layer = nn.Linear(in_dim, out, bias=False)
    with torch.no_grad():
        nn.init.eye_(layer.weight) if out == in_dim else nn.init.orthogonal_(layer.weight)
    if orthogonal:
        keep_orthogonal(layer)
    return nn.Sequential(layer)
