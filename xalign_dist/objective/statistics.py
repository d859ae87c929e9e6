"""What the global batch looks like: the figures that temperature, fading, trace and guard read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from xalign_dist.objective.gather import Rows, sum_over_ranks
from xalign_dist.objective.view import View


@dataclass(frozen=True)
class BatchStatistics:
    """Scalars over all G rows, float64, no gradient.

    Attributes:
        gap: mean of s_ii minus the row's highest negative, both directions.
        spread: standard deviation of the similarities off the diagonal.
        accuracy: share of rows whose positive is the nearest column, both directions.
        off_diagonal: mean similarity off the diagonal.
        uniformity: log mean exp(-2 |x_i - y_j|^2), i != j (Wang & Isola 2020, across the two sides);
            0 when all vectors are one, about -4 when all are orthogonal.
    """

    gap: Tensor
    spread: Tensor
    accuracy: Tensor
    off_diagonal: Tensor
    uniformity: Tensor


@torch.no_grad()
def batch_statistics(
    blocks: Iterable[tuple[View, View]], rows: Rows, mask_duplicates: bool
) -> BatchStatistics:
    """Statistics of the global batch from this rank's rows; one reduction over ranks.

    Args:
        blocks: both directions of this rank's rows.
        rows: where this rank's rows lie.
        mask_duplicates: leave columns that share a text with the row out of gap and accuracy.
    """
    sums = torch.stack([_block(one, two, mask_duplicates) for one, two in blocks]).sum(dim=0)
    gap, hits, total, square, potential = sum_over_ranks(sums).unbind()
    g = rows.total
    entries = max(1, g * (g - 1))
    mean = total / entries
    return BatchStatistics(
        gap=gap / (2 * g),
        spread=(square / entries - mean.square()).clamp_min(0).sqrt(),
        accuracy=hits / (2 * g),
        off_diagonal=mean,
        uniformity=(potential / entries).clamp_min(1e-30).log(),
    )


def _block(forward: View, backward: View, mask_duplicates: bool) -> Tensor:
    sim_RG = forward.similarities()
    off_RG = forward.off_diagonal()
    gap_f, hits_f = _margins(forward, sim_RG, off_RG, mask_duplicates)
    gap_b, hits_b = _margins(backward, backward.similarities(), off_RG, mask_duplicates)
    # The unlike pairs are the same in both directions: one is enough.
    off = torch.where(off_RG, sim_RG, torch.zeros_like(sim_RG))
    potential = torch.where(off_RG, torch.exp(4.0 * (sim_RG - 1.0)), torch.zeros_like(sim_RG))
    moments = [off.sum(dtype=torch.float64), off.square().sum(dtype=torch.float64)]
    return torch.stack([gap_f + gap_b, hits_f + hits_b, *moments, potential.sum(dtype=torch.float64)])


def _margins(view: View, sim_RG: Tensor, off_RG: Tensor, mask_duplicates: bool) -> tuple[Tensor, Tensor]:
    negative_RG = view.not_duplicates() if mask_duplicates else off_RG
    # -1 is the lowest cosine: a row without any negative has its gap measured against that.
    hardest_R = sim_RG.masked_fill(~negative_RG, -1.0).amax(dim=1)
    positive_R = view.positives(sim_RG)[:, 0]
    return (positive_R - hardest_R).sum(dtype=torch.float64), (positive_R > hardest_R).double().sum()
