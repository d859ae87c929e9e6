"""One direction of the global batch: a block of this rank's rows of one side against all G columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from xalign_dist.objective.false_negatives import duplicate_mask
from xalign_dist.objective.gather import Rows


@dataclass(frozen=True)
class BatchMeta:
    """What the objective must know of this rank's B pairs beside their embeddings.

    Attributes:
        src_key_B, tgt_key_B: :func:`~xalign_dist.records.text_key` of the texts, int64.
        src_lang_B, tgt_lang_B: language ids below the objective's ``languages``, int64.
        weight_B: confidence of each pair, float32, at least 0.
        ref_src_BD, ref_tgt_BD: unit vectors of the frozen reference, or None. Their D may differ.
    """

    src_key_B: Tensor
    tgt_key_B: Tensor
    src_lang_B: Tensor
    tgt_lang_B: Tensor
    weight_B: Tensor
    ref_src_BD: Tensor | None = None
    ref_tgt_BD: Tensor | None = None


@dataclass(frozen=True)
class Side:
    """One side's texts: this rank's B rows and all ranks' G."""

    unit_BD: Tensor
    unit_GD: Tensor
    key_B: Tensor
    key_G: Tensor
    ref_BD: Tensor | None
    ref_GD: Tensor | None

    @classmethod
    def gather(cls, unit_BD: Tensor, key_B: Tensor, ref_BD: Tensor | None, rows: Rows) -> Side:
        """Collect the side from all ranks; gradients flow back through ``unit_GD``."""
        ref_GD = None if ref_BD is None else rows.gather(ref_BD)
        return cls(unit_BD, rows.gather(unit_BD), key_B, rows.gather(key_B), ref_BD, ref_GD)


@dataclass(frozen=True)
class View:
    """R of this rank's rows of ``own`` against the G columns of ``other``.

    Attributes:
        block: which of this rank's rows.
        target_R: column of each row's positive.
    """

    own: Side
    other: Side
    block: slice
    target_R: Tensor

    def within(self) -> View:
        """The same rows against their own side; the target is the row itself."""
        return View(self.own, self.own, self.block, self.target_R)

    def similarities(self) -> Tensor:
        """Cosines, float ``[R, G]``."""
        return self.own.unit_BD[self.block] @ self.other.unit_GD.T

    def reference_similarities(self) -> Tensor | None:
        """The reference encoder's cosines, float ``[R, G]``; None without reference vectors."""
        if self.own.ref_BD is None or self.other.ref_GD is None:
            return None
        return self.own.ref_BD[self.block] @ self.other.ref_GD.T

    def positives(self, sim_RG: Tensor) -> Tensor:
        """s_ii, ``[R, 1]``."""
        return sim_RG.gather(1, self.target_R[:, None])

    def off_diagonal(self) -> Tensor:
        """True everywhere but at the positives, bool ``[R, G]``."""
        mask = torch.ones(
            len(self.target_R), len(self.other.key_G), dtype=torch.bool, device=self.target_R.device
        )
        return mask.scatter_(1, self.target_R[:, None], False)

    def not_duplicates(self) -> Tensor:
        """True where the column shares no text with the row's pair, bool ``[R, G]``."""
        return ~duplicate_mask(
            self.own.key_B[self.block], self.other.key_B[self.block], self.other.key_G, self.own.key_G
        )


def blocks_of_views(src: Side, tgt: Side, rows: Rows, block_rows: int) -> Iterator[tuple[View, View]]:
    """Both directions of each block of at most ``block_rows`` of this rank's rows."""
    for start in range(0, rows.local, block_rows):
        block = slice(start, min(start + block_rows, rows.local))
        target_R = torch.arange(block.start, block.stop, device=src.unit_BD.device) + rows.offset
        yield View(src, tgt, block, target_R), View(tgt, src, block, target_R)
