"""Word alignment from contextual states, scored against sure and possible gold links."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Bool, Float64
from xalign_dist.evaluation.vectors import unit_rows
from xalign_dist.records import Float32, Int64

Link = tuple[int, int]
Method = Literal["mutual", "itermax"]

_LINK = re.compile(r"(\d+)([-?p])(\d+)")


class GoldLinks(NamedTuple):
    """Sure links, and all that are possible (the sure ones among them)."""

    sure: frozenset[Link]
    possible: frozenset[Link]


class LinkCounts(NamedTuple):
    """Of one sentence pair: links given, sure and possible ones among them, sure ones in the gold."""

    answers: int
    in_sure: int
    in_possible: int
    sure: int


def parse_links(text: str, src_words: int, tgt_words: int) -> GoldLinks:
    """Read Pharaoh notation: ``0-0 1-2`` sure links, ``3?4`` or ``3p4`` possible ones, from 0.

    Raises:
        DataError: a token of another form, or a link outside the sentences.
    """
    sure, possible = set(), set()
    for token in text.split():
        found = _LINK.fullmatch(token)
        if not found:
            raise DataError(f"alignment link {token!r}", "write i-j for sure, i?j for possible links")
        link = (int(found[1]), int(found[3]))
        if link[0] >= src_words or link[1] >= tgt_words:
            raise DataError(
                f"alignment link {token!r} outside sentences of {src_words} and {tgt_words} words",
                "count words from 0, split at spaces",
            )
        possible.add(link)
        if found[2] == "-":
            sure.add(link)
    return GoldLinks(frozenset(sure), frozenset(possible))


def align_words(src_SD: Float32, tgt_TD: Float32, method: Method = "itermax", rounds: int = 2) -> set[Link]:
    """Links between the words of two sentences, by cosine of their states.

    ``mutual``: each the other's best. ``itermax`` (Jalili Sabet et al. 2020): mutual best again
    among what is left, where a word that has a link already counts 0.9 of its similarity, and
    two that both have one count nothing; this finds one-to-many links.

    Args:
        src_SD: one state per source word; a word without a state (zeros) is never linked.
        tgt_TD: one state per target word.
        method: see above.
        rounds: of itermax, the first included.
    """
    if not len(src_SD) or not len(tgt_TD):
        return set()
    src, tgt = unit_rows(src_SD, "source states"), unit_rows(tgt_TD, "target states")
    known_S = np.asarray(src.any(axis=1), np.bool_)
    known_T = np.asarray(tgt.any(axis=1), np.bool_)
    known_ST = known_S[:, None] & known_T[None, :]
    sim_ST = np.where(known_ST, ((src @ tgt.T).astype(np.float64) + 1) / 2, 0.0)
    links_ST = _mutual(sim_ST)
    for _ in range(rounds - 1 if method == "itermax" else 0):
        has_S = np.asarray(links_ST.any(axis=1), np.bool_)
        has_T = np.asarray(links_ST.any(axis=0), np.bool_)
        both = has_S[:, None] & has_T[None, :]
        either = has_S[:, None] | has_T[None, :]
        left_ST = sim_ST * np.where(both, 0.0, np.where(either, 0.9, 1.0))
        links_ST |= _mutual(left_ST) & (left_ST > 0)
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(links_ST & known_ST), strict=True)}


def _mutual(sim_ST: Float64) -> Bool:
    rows = np.arange(sim_ST.shape[0])
    best_S: Int64 = sim_ST.argmax(axis=1)
    best_T: Int64 = sim_ST.argmax(axis=0)
    agree_S: Bool = np.equal(best_T[best_S], rows)
    links_ST: Bool = np.zeros(sim_ST.shape, np.bool_)
    links_ST[rows[agree_S], best_S[agree_S]] = True
    return links_ST


def count_links(answers: Collection[Link], gold: GoldLinks) -> LinkCounts:
    """What F1 and AER are made of, for one sentence pair."""
    given = set(answers)
    return LinkCounts(len(given), len(given & gold.sure), len(given & gold.possible), len(gold.sure))


def aer(counts: Collection[LinkCounts]) -> float:
    """Alignment error rate over a corpus (Och & Ney 2003), lower is better.

    ``1 - (|A and S| + |A and P|) / (|A| + |S|)``; NaN without links.
    """
    total = sum(c.answers + c.sure for c in counts)
    right = sum(c.in_sure + c.in_possible for c in counts)
    return 1 - right / total if total else float("nan")


def link_f1(counts: Collection[LinkCounts]) -> float:
    """F1 over a corpus: precision on possible links, recall of the sure ones; NaN without links."""
    answers, sure = sum(c.answers for c in counts), sum(c.sure for c in counts)
    if not answers and not sure:
        return float("nan")
    precision = sum(c.in_possible for c in counts) / answers if answers else 0.0
    recall = sum(c.in_sure for c in counts) / sure if sure else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
