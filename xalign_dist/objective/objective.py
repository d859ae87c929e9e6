"""The dynamic contrastive objective (docs/method.md): the parts, put together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xalign_dist.config.model import ObjectiveConfig
from xalign_dist.errors import ConfigError, DataError
from xalign_dist.objective.adversary import LanguageAdversary, adversary_weight, contrastive_weight
from xalign_dist.objective.false_negatives import too_similar_mask
from xalign_dist.objective.gather import Rows, sum_over_ranks
from xalign_dist.objective.hardness import log_negative_weights
from xalign_dist.objective.infonce import effective_negatives, info_nce
from xalign_dist.objective.regulariser import fading_weight, structure_divergence
from xalign_dist.objective.smoothing import ExponentialMean
from xalign_dist.objective.statistics import batch_statistics
from xalign_dist.objective.temperature import DynamicTemperature
from xalign_dist.objective.view import BatchMeta, Side, View, blocks_of_views

#: Rows whose G similarities are held at once. More are recomputed block by block on the way back, so
#: that a batch of thousands of pairs needs memory in proportion to G, not to G squared.
BLOCK_ROWS = 1024

_TRACE = (
    *("loss", "contrastive", "regulariser", "adversary", "effective_negatives", "masked_share"),
    *("lambda_C", "lambda_R", "lambda_A", "tau", "gap", "spread", "accuracy", "off_diagonal"),
    *("uniformity", "effective_pairs"),
)


class LossOutput(NamedTuple):
    """``loss`` is this rank's share L_r (see :mod:`~xalign_dist.objective.gather`); ``trace`` is global.

    Keys of ``trace``: loss, contrastive, regulariser, adversary (terms before their lambda), lambda_C (0 in
    the adversarial warm-up, else 1), lambda_R, lambda_A, tau, gap and spread (of the batch), accuracy (A,
    smoothed), off_diagonal (mean similarity of unlike texts), uniformity, effective_negatives (a row),
    masked_share (of the negatives), effective_pairs (share of the pairs that the confidences leave,
    ``(sum c)^2 / (G sum c^2)``: 1 where all are equal).
    """

    loss: Tensor
    trace: dict[str, float]


class DynamicObjective(nn.Module):
    """L = lambda_C mean_i c_i l_i + lambda_R R + lambda_A L_adv.

    l_i is the mean of both directions' InfoNCE with temperature tau, hardness weights and masked false
    negatives; c_i is the pair's confidence over the mean confidence; R is the structure divergence of
    both directions, plus ``within`` times that of each side with itself, plus
    ``alignment_weight * (1 - s_ii)``; L_adv is the discriminator's cross-entropy,
    whose gradient reaches the embeddings reversed; lambda_C is 1 once the adversarial warm-up is over.
    With every part disabled and equal weights it is exactly fixed-temperature InfoNCE.

    All batch statistics are of the global batch: W ranks give the loss and gradient of one process.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        dim: int,
        languages: int,
        seed: int = 0,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        """``dim`` D of the embeddings; ``languages`` classes of the adversary (fewer than 2: none)."""
        super().__init__()
        self.config = config
        self.block_rows = block_rows
        self.temperature = DynamicTemperature(config.temperature)
        self.accuracy = ExponentialMean(config.regulariser.smoothing)
        self.adversary: LanguageAdversary | None = None
        if config.adversary.enabled and languages > 1:
            self.adversary = LanguageAdversary(dim, languages, config.adversary.hidden, seed)

    def forward(self, src_BD: Tensor, tgt_BD: Tensor, meta: BatchMeta, progress: float) -> LossOutput:
        """Loss of this rank's B pairs among all G.

        Args:
            src_BD, tgt_BD: unit vectors, float32, row i of one translates row i of the other.
            meta: keys, languages, weights and reference vectors of the same rows.
            progress: share of training done, in [0, 1].

        Raises:
            DataError: all confidences of the global batch are zero.
            ConfigError: the structure term is on and ``meta`` has no reference vectors.
        """
        if self.config.regulariser.enabled and meta.ref_src_BD is None:
            raise ConfigError(
                "objective.regulariser is enabled, but the training set has no reference vectors",
                "write the training set with reference vectors, or set objective.regulariser.enabled=false",
            )
        rows = Rows.of(src_BD.shape[0], src_BD.device)
        src = Side.gather(src_BD, meta.src_key_B, meta.ref_src_BD, rows)
        tgt = Side.gather(tgt_BD, meta.tgt_key_B, meta.ref_tgt_BD, rows)
        blocks = list(blocks_of_views(src, tgt, rows, self.block_rows))
        seen = batch_statistics(blocks, rows, self.config.false_negatives.enabled)
        if self.training:
            self.temperature.observe(seen.gap, seen.spread)
            self.accuracy.update(seen.accuracy)
        tau = self.temperature(progress)
        forward_2B, backward_2B, counts = self._rows(blocks, tau, progress)

        weight_B, effective_pairs = _confidence(meta.weight_B, rows)
        contrastive = (
            rows.global_mean(weight_B * forward_2B[0]) + rows.global_mean(weight_B * backward_2B[0])
        ) / 2
        regulariser = rows.global_mean((forward_2B[1] + backward_2B[1]) / 2)
        adversary, lambda_a = self._adversary(src_BD, tgt_BD, meta, rows, progress)
        lambda_r = fading_weight(self.accuracy.value, self.config.regulariser)
        lambda_c = 1.0 if self.adversary is None else contrastive_weight(progress, self.config.adversary)
        loss = contrastive if lambda_c == 1.0 else lambda_c * contrastive
        if self.config.regulariser.enabled:
            loss = loss + lambda_r * regulariser
        if self.adversary is not None:
            # Value lambda_A * L_adv, gradient of L_adv: the reversal has scaled the encoder's part.
            loss = loss + (adversary + (lambda_a * adversary - adversary).detach())

        terms = torch.stack([loss, contrastive, regulariser, adversary]).detach().double() / len(rows.counts)
        counts = counts / (2 * rows.total) / counts.new_tensor([1.0, max(1, rows.total - 1)])
        state = [lambda_c, lambda_r, lambda_a, tau, seen.gap, seen.spread, self.accuracy.value]
        state += [seen.off_diagonal, seen.uniformity, effective_pairs]
        trace = _trace(torch.cat([terms, counts]), state)
        return LossOutput(loss, trace)

    def _rows(
        self, blocks: list[tuple[View, View]], tau: Tensor | float, progress: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Contrastive and structure term of this rank's rows in both directions, and counts for the trace."""
        results: list[tuple[Tensor, Tensor, Tensor]] = []
        for one, two in blocks:
            if len(blocks) == 1:
                results.append(self._block(one, two, tau, progress))
            else:
                results.append(checkpoint(self._block, one, two, tau, progress, use_reentrant=False))
        forward, backward, counts = zip(*results, strict=True)
        return torch.cat(forward, dim=1), torch.cat(backward, dim=1), torch.stack(counts).sum(dim=0)

    def _block(
        self, one: View, two: View, tau: Tensor | float, progress: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        forward_2R, counts = self._direction(one, tau, progress)
        backward_2R, more = self._direction(two, tau, progress)
        return forward_2R, backward_2R, counts + more

    def _direction(self, view: View, tau: Tensor | float, progress: float) -> tuple[Tensor, Tensor]:
        config = self.config
        sim_RG = view.similarities()
        frozen_RG, off_RG = sim_RG.detach(), view.off_diagonal()
        negative_RG, masked_RG = off_RG, None
        if config.false_negatives.enabled:
            negative_RG = view.not_duplicates()
            positive_R1 = view.positives(frozen_RG)
            similar_RG = too_similar_mask(frozen_RG, positive_R1, config.false_negatives, progress)
            if similar_RG is not None:
                negative_RG = negative_RG & ~similar_RG
            masked_RG = off_RG & ~negative_RG
        log_weight_RG = log_negative_weights(frozen_RG, negative_RG, config.hardness)
        contrastive_R = info_nce(sim_RG, view.target_R, tau, masked_RG, log_weight_RG)
        effective = effective_negatives(frozen_RG, negative_RG, tau, log_weight_RG).sum(dtype=torch.float64)
        masked = effective.new_zeros(()) if masked_RG is None else masked_RG.sum(dtype=torch.float64)
        terms_2R = torch.stack([contrastive_R, self._structure(view, sim_RG)])
        return terms_2R, torch.stack([effective, masked])

    def _structure(self, view: View, sim_RG: Tensor) -> Tensor:
        config = self.config.regulariser
        ref_RG = view.reference_similarities() if config.enabled else None
        if ref_RG is None:
            return sim_RG.new_zeros(sim_RG.shape[0])
        each_R = structure_divergence(sim_RG, ref_RG, config)
        if config.within > 0:
            same = view.within()
            same_ref_RG = same.reference_similarities()
            assert same_ref_RG is not None
            same_R = structure_divergence(same.similarities(), same_ref_RG, config, same.off_diagonal())
            each_R = each_R + config.within * same_R
        if config.alignment_weight > 0:
            each_R = each_R + config.alignment_weight * (1.0 - view.positives(sim_RG)[:, 0])
        return each_R

    def _adversary(
        self, src_BD: Tensor, tgt_BD: Tensor, meta: BatchMeta, rows: Rows, progress: float
    ) -> tuple[Tensor, float]:
        if self.adversary is None:
            return src_BD.new_zeros(()), 0.0
        weight = adversary_weight(progress, self.config.adversary)
        one_B = self.adversary(src_BD, meta.src_lang_B, weight)
        two_B = self.adversary(tgt_BD, meta.tgt_lang_B, weight)
        return rows.global_mean((one_B + two_B) / 2), weight


def _confidence(weight_B: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """c_i = weight over the global batch's mean weight: mean 1, exactly 1 where all are equal.

    Returns:
        c ``[B]``, and the share of effective pairs (Kish 1965).
    """
    weights = weight_B.double()
    total, square = sum_over_ranks(torch.stack([weights.sum(), weights.square().sum()])).unbind()
    if not bool(total > 0):
        raise DataError(
            "the confidences of all pairs in the batch are zero, so nothing can be learned from it",
            "check the audit of the pairs, or set pairs.use_confidence_as_weight=false",
        )
    return (weights / (total / rows.total)).float(), total.square() / (rows.total * square)


@torch.no_grad()
def _trace(shares: Tensor, state: list[Tensor | float]) -> dict[str, float]:
    # One reduction and one copy to the host for the whole trace.
    scalars = [torch.as_tensor(v, dtype=torch.float64, device=shares.device) for v in state]
    values = torch.cat([sum_over_ranks(shares), torch.stack(scalars)]).tolist()
    return dict(zip(_TRACE, values, strict=True))
