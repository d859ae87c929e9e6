"""A language discriminator that the encoder learns to deceive."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xalign_dist.config.model import AdversaryConfig


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grads[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """Identity forward, ``-strength * gradient`` backward (Ganin et al. 2016, equation 13)."""
    reversed_x: Tensor = _Reverse.apply(x, strength)  # type: ignore[no-untyped-call]
    return reversed_x


def adversary_weight(progress: float, config: AdversaryConfig) -> float:
    """lambda_A: rises linearly over the first ``ramp`` of progress, falls to 0 from ``decay_from`` to 1."""
    if not config.enabled:
        return 0.0
    rise = min(1.0, progress / config.ramp) if config.ramp > 0 else 1.0
    left = (1.0 - progress) / (1.0 - config.decay_from) if config.decay_from < 1 else 1.0
    return config.weight * rise * min(1.0, max(0.0, left))


def contrastive_weight(progress: float, config: AdversaryConfig) -> float:
    """lambda_C: 0 in the adversarial warm-up (the first ``warmup`` of progress), 1 from then on (paper 3).

    In the warm-up the languages' spaces are brought over each other before any pair is believed; the
    structure term keeps the meaning in place meanwhile.
    """
    return 0.0 if config.enabled and progress < config.warmup else 1.0


class LanguageAdversary(nn.Module):
    """Which language is this vector? Two layers; their gradient reaches the encoder reversed.

    The discriminator always learns at full strength; only what reaches the encoder is scaled by
    lambda_A, so that it already judges well when the encoder starts to listen.
    """

    def __init__(self, dim: int, languages: int, hidden: int, seed: int) -> None:
        """``languages`` classes; weights come from ``seed`` alone, so that all ranks start alike."""
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.hidden = nn.Linear(dim, hidden)
        self.output = nn.Linear(hidden, languages)
        with torch.no_grad():
            for layer in (self.hidden, self.output):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.zero_()

    def forward(self, unit_ND: Tensor, lang_N: Tensor, strength: float) -> Tensor:
        """Cross-entropy of each vector's language, float ``[N]``.

        Args:
            unit_ND: embeddings; they receive ``-strength`` times the gradient.
            lang_N: language ids, int64.
            strength: lambda_A.
        """
        # sqrt(D) brings a unit vector's components to size 1, what a linear layer's start expects.
        scaled_ND = reverse_gradient(unit_ND, strength) * unit_ND.shape[1] ** 0.5
        logit_NL = self.output(F.gelu(self.hidden(scaled_ND)))
        return F.cross_entropy(logit_NL, lang_N, reduction="none")
