"""The projection after pooling (paper 2.1): none, one matrix, or two with GELU between."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal as keep_orthogonal

from xalign_dist.errors import ConfigError

Projection = Literal["none", "linear", "mlp"]


def build_head(
    kind: Projection, in_dim: int, out_dim: int | None = None, orthogonal: bool = False
) -> nn.Sequential | None:
    """A fresh head, or None. Where it keeps the width it starts as the identity.

    linear: ``W x``, no bias. mlp: ``[P -P] GELU([I; -I] x)``, of 2 D hidden units; since
    GELU(x) - GELU(-x) = x, this is ``P x`` until it is trained. W and P are the identity, or a random
    matrix with orthonormal rows or columns (fixed seed) where the width changes.

    Args:
        out_dim: None: as ``in_dim``.
        orthogonal: keep W orthogonal in training: angles are then those of the backbone.

    Raises:
        ConfigError: ``orthogonal`` without a linear head.
    """
    if orthogonal and kind != "linear":
        raise ConfigError(f"encoder.orthogonal with projection={kind}", "set encoder.projection=linear")
    if kind == "none":
        return None
    out_dim = out_dim or in_dim
    start_OI = _start(out_dim, in_dim)
    if kind == "linear":
        head = nn.Sequential(_linear(start_OI, bias=False))
        return constrain(head) if orthogonal else head
    eye = torch.eye(in_dim)
    return nn.Sequential(
        _linear(torch.cat([eye, -eye]), bias=True),
        nn.GELU(),
        _linear(torch.cat([start_OI, -start_OI], dim=1), bias=True),
    )


def constrain(head: nn.Sequential) -> nn.Sequential:
    """Keep the head's one matrix orthogonal from here on; a matrix that is so already is not changed."""
    keep_orthogonal(head[0])
    return head


def fits(head: nn.Sequential, kind: Projection, out_dim: int | None) -> bool:
    """Whether ``head`` is of this kind and, unless None, of this width."""
    kinds = {"linear": [nn.Linear], "mlp": [nn.Linear, nn.GELU, nn.Linear]}
    if kind == "none":
        return True
    last = head[-1]
    return (
        [_kind(part) for part in head] == kinds[kind]
        and isinstance(last, nn.Linear)
        and out_dim in (None, last.out_features)
    )


def _kind(part: nn.Module) -> type[nn.Module]:
    # A parametrised Linear is an instance of a class made for it.
    return nn.Linear if isinstance(part, nn.Linear) else type(part)


def _start(rows: int, columns: int) -> Tensor:
    if rows == columns:
        return torch.eye(rows)
    return nn.init.orthogonal_(torch.empty(rows, columns), generator=torch.Generator().manual_seed(0))


def _linear(weight_OI: Tensor, bias: bool) -> nn.Linear:
    layer = nn.Linear(weight_OI.shape[1], weight_OI.shape[0], bias=bias)
    with torch.no_grad():
        layer.weight.copy_(weight_OI)
        if bias:
            layer.bias.zero_()
    return layer
