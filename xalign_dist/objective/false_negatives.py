"""Which columns are no negatives of a row, because they are probably translations of it."""

from __future__ import annotations

import torch
from torch import Tensor

from xalign_dist.config.model import FalseNegativeConfig


def duplicate_mask(
    row_key_B: Tensor, row_pair_key_B: Tensor, column_key_G: Tensor, column_pair_key_G: Tensor
) -> Tensor:
    """True where column j shares a text with row i's pair, on either side, bool ``[B, G]``.

    Row i is text a_i whose translation is b_i; column j is text b_j whose translation is a_j.
    b_j counts as a translation of a_i if a_j = a_i, if b_j = b_i, or if b_j is a_i itself (a copy).
    Keys are :func:`~xalign_dist.records.text_key` values. The diagonal is True as well.

    Args:
        row_key_B: keys of a_i.
        row_pair_key_B: keys of b_i.
        column_key_G: keys of b_j.
        column_pair_key_G: keys of a_j.
    """
    same_row = row_key_B[:, None] == column_pair_key_G[None, :]
    same_column = row_pair_key_B[:, None] == column_key_G[None, :]
    copy = row_key_B[:, None] == column_key_G[None, :]
    return same_row | same_column | copy


@torch.no_grad()
def too_similar_mask(
    sim_BG: Tensor, positive_B1: Tensor, config: FalseNegativeConfig, progress: float
) -> Tensor | None:
    """True where s_ij > s_ii + delta, bool ``[B, G]``; None before the warm-up's end.

    A column nearer to the row than its own translation is more often an unlabelled translation than
    a negative, once the encoder can tell (hence the warm-up).
    """
    if progress < config.warmup:
        return None
    return sim_BG > positive_B1 + config.delta
