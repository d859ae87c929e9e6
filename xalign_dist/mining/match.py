"""Who is best for whom, and what a sentence would take if its partner were not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xalign_dist.errors import DataError
from xalign_dist.mining.knn import MISSING, Neighbours
from xalign_dist.mining.margin import best_of, list_margins, neighbourhood_means, ratio
from xalign_dist.records import Float32, Int64

Bool = npt.NDArray[np.bool_]

NO_COMPETITOR = np.float32(1.0)
"""Margin that a competitor is given where the lists name none: that of a random pair."""


@dataclass(frozen=True, slots=True)
class Side:
    """The neighbour lists of one side's rows among the other side's.

    Attributes:
        scores: cosines, float32 ``[N, K]``.
        ids: rows of the other side, int64 ``[N, K]``, MISSING where there is none.
        mean: mean cosine of the neighbours, float32 ``[N]``.
        margin: margin with each neighbour, float32 ``[N, K]``, -inf where there is none.
    """

    scores: Float32
    ids: Int64
    mean: Float32
    margin: Float32


@dataclass(frozen=True, slots=True)
class View:
    """The lists of both sides under one embedding."""

    src: Side
    tgt: Side

    @staticmethod
    def of(forward: Neighbours, backward: Neighbours) -> View:
        """From merged lists: source rows among targets, and target rows among sources.

        Raises:
            DataError: a list names a row that the other side does not have.
        """
        for name, lists, rows in (
            ("forward", forward, len(backward[1])),
            ("backward", backward, len(forward[1])),
        ):
            if lists[1].size and int(lists[1].max()) >= rows:
                raise DataError(
                    f"{name} neighbours name row {int(lists[1].max())} of a side with {rows} rows",
                    "search both directions over the same two tables",
                )
        src_mean, tgt_mean = neighbourhood_means(forward), neighbourhood_means(backward)
        return View(
            Side(*forward, src_mean, list_margins(forward, src_mean, tgt_mean)),
            Side(*backward, tgt_mean, list_margins(backward, tgt_mean, src_mean)),
        )

    def flipped(self) -> View:
        """The same with source and target exchanged."""
        return View(self.tgt, self.src)


class Candidates(NamedTuple):
    """Pairs of rows that are each other's best by margin, ascending by source row. Arrays ``[C]``.

    ``gap``: how far the margin is above that of the nearest competitor of either row.
    """

    src: Int64
    tgt: Int64
    cosine: Float32
    margin: Float32
    gap: Float32

    @property
    def strength(self) -> Float32:
        """What candidates are ranked by: margin + gap.

        A translation stands alone, a topical neighbour has rivals: against the margin alone
        this raised the mean F1 on eval_mining (de sw te yo) from .852 to .883.
        """
        return self.margin + self.gap


def find_candidates(view: View) -> Candidates:
    """Mutual best by margin among the K nearest; ties go to the lower row, whatever the shards."""
    best, tgt_of_src = best_of(view.src.margin, view.src.ids)
    _, src_of_tgt = best_of(view.tgt.margin, view.tgt.ids)
    src = np.flatnonzero(tgt_of_src != MISSING)
    src = src[src_of_tgt[tgt_of_src[src]] == src]
    tgt = tgt_of_src[src]
    rival = np.maximum(best_rival(view.src, src, tgt), best_rival(view.tgt, tgt, src))
    at = (view.src.ids[src] == tgt[:, None]).argmax(axis=1)
    return Candidates(src, tgt, view.src.scores[src, at], best[src], best[src] - rival)


def best_rival(side: Side, row_C: Int64, partner_C: Int64) -> Float32:
    """Largest margin of each row with anyone but its partner; :data:`NO_COMPETITOR` where there is none."""
    best, _ = best_of(side.margin[row_C], side.ids[row_C], partner_C)
    return np.where(np.isfinite(best), best, NO_COMPETITOR).astype(np.float32)


class Bereaved(NamedTuple):
    """What sources would take if their partner were not there. Arrays ``[C]``.

    ``happens``: whether they and their next best would be each other's best. ``partner``: that next
    best. ``strength``: margin + gap of the new pair.
    """

    happens: Bool
    partner: Int64
    strength: Float32


def bereave(view: View, src_C: Int64, tgt_C: Int64) -> Bereaved:
    """Take target ``tgt_C[i]`` out of the corpus and see what source ``src_C[i]`` pairs with, one at a time.

    Everything else stays as it is, so the new partner must prefer this source to all it has:
    a false pair that comes about goes through exactly the selection that candidates went through.
    The neighbourhood mean of the source is taken without the partner.
    """
    scores, ids = view.src.scores[src_C], view.src.ids[src_C]
    left = (ids != MISSING) & (ids != tgt_C[:, None])
    mean = np.where(left, scores, 0).sum(axis=1) / np.maximum(left.sum(axis=1), 1)
    margin = ratio(np.where(left, scores, 0), mean[:, None], view.tgt.mean[np.where(left, ids, 0)])
    margin = np.where(left, margin, np.float32(-np.inf)).astype(np.float32)
    best, partner = best_of(margin, ids)
    exists = partner != MISSING
    safe = np.where(exists, partner, 0)
    prefers = best_rival(view.tgt, safe, src_C)
    own_rival, _ = best_of(margin, ids, partner)
    rival = np.maximum(np.where(np.isfinite(own_rival), own_rival, NO_COMPETITOR), prefers)
    return Bereaved(
        exists & (best > prefers), partner, np.where(exists, 2 * best - rival, 0).astype(np.float32)
    )


def partner_without(view: View, src_C: Int64, tgt_C: Int64) -> Int64:
    """The mutual partner of each source once its target is taken out; MISSING where it finds none."""
    found = bereave(view, src_C, tgt_C)
    return np.where(found.happens, found.partner, MISSING)
