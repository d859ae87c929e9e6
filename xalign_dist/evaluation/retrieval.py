"""Sentence retrieval: bilingual (accuracy, F1, xsim) and pooled over all languages."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Bool, Float64
from xalign_dist.evaluation.vectors import BLOCK_ROWS, topk, unit_rows
from xalign_dist.records import Float32, Int64

MARGIN_NEIGHBOURS = 4


class RetrievalScores(NamedTuple):
    """Per query: was the nearest right (cosine), its share of F1, was the margin's choice wrong."""

    hits_N: Bool
    f1_N: Float64
    errors_N: Bool

    @property
    def accuracy(self) -> float:
        """Share of queries whose nearest neighbour by cosine is right."""
        return float(self.hits_N.mean())

    @property
    def f1(self) -> float:
        """F1 over target texts as classes, weighted by support (MTEB's bitext F1)."""
        return float(self.f1_N.mean())

    @property
    def xsim(self) -> float:
        """Share of queries whose best candidate by margin is wrong (lower is better)."""
        return float(self.errors_N.mean())


class Directions(NamedTuple):
    """Scores of source queries against targets, and of target queries against sources."""

    forward: RetrievalScores
    backward: RetrievalScores


def retrieval(
    src_ND: Float32,
    tgt_ND: Float32,
    *,
    src_keys: Int64 | None = None,
    tgt_keys: Int64 | None = None,
    neighbours: int = MARGIN_NEIGHBOURS,
    block: int = BLOCK_ROWS,
) -> Directions:
    """Find row i of one side from row i of the other, both ways.

    Accuracy: nearest by cosine. F1: weighted over answers as classes, the number that MTEB
    reports for bitext sets; as a mean over queries it is ``2 right_c / (support_c + answered_c)``
    of the query's class c. xsim (LASER): among the k nearest by cosine the best by ratio margin
    (Artetxe & Schwenk 2019), neighbourhood means over k on either side; the share of wrong ones.

    Args:
        src_ND: embeddings of one side, scaled to length 1 here.
        tgt_ND: embeddings of the other, row i translating row i.
        src_keys: text keys. Given with ``tgt_keys``: a candidate with the gold's text is right,
            and so is the partner of a row with the query's text. None: only row i is right.
        tgt_keys: as ``src_keys``.
        neighbours: k of the margin.
        block: queries compared at once.

    Raises:
        DataError: sides of unequal length, or no rows. ModelError: NaN.
    """
    src_ND, tgt_ND = unit_rows(src_ND, "source side"), unit_rows(tgt_ND, "target side")
    if len(src_ND) != len(tgt_ND) or len(src_ND) == 0:
        raise DataError(
            f"retrieval over {len(src_ND)} source and {len(tgt_ND)} target rows",
            "give the same number of rows on both sides, at least one",
        )
    rows = np.arange(len(src_ND))
    s_keys = rows if src_keys is None else src_keys
    t_keys = rows if tgt_keys is None else tgt_keys
    fwd_cos, fwd_idx = topk(src_ND, tgt_ND, neighbours, block)
    bwd_cos, bwd_idx = topk(tgt_ND, src_ND, neighbours, block)
    fwd_mean, bwd_mean = fwd_cos.mean(axis=1), bwd_cos.mean(axis=1)
    return Directions(
        _score(fwd_idx, fwd_cos, fwd_mean, bwd_mean, s_keys, t_keys),
        _score(bwd_idx, bwd_cos, bwd_mean, fwd_mean, t_keys, s_keys),
    )


def _score(
    idx_Nk: Int64, cos_Nk: Float32, mean_N: Float32, base_mean_N: Float32, query_keys: Int64, keys: Int64
) -> RetrievalScores:
    rows = np.arange(len(idx_Nk))
    nearest = idx_Nk[:, 0]
    hits = _right(nearest, query_keys, keys)
    denominator_Nk = np.maximum((mean_N[:, None] + base_mean_N[idx_Nk]) / 2, 1e-6)
    best = idx_Nk[rows, np.argmax(cos_Nk / denominator_Nk, axis=1)]
    return RetrievalScores(hits, _f1_items(hits, nearest, keys), ~_right(best, query_keys, keys))


def _right(answer_N: Int64, query_keys: Int64, keys: Int64) -> Bool:
    return np.asarray((keys[answer_N] == keys) | (query_keys[answer_N] == query_keys))


def _f1_items(hits: Bool, nearest: Int64, keys: Int64) -> Float64:
    _, gold_class = np.unique(keys, return_inverse=True)
    # A right answer may be another text (the query occurs twice): it counts for the gold's class.
    answered_class = np.where(hits, gold_class, gold_class[nearest])
    size = int(gold_class.max()) + 1
    support = np.bincount(gold_class, minlength=size)
    answered = np.bincount(answered_class, minlength=size)
    right = np.bincount(gold_class[hits], minlength=size)
    f1_class = 2.0 * right / (support + answered)
    return np.asarray(f1_class[gold_class], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class PooledScores:
    """Per query of the pool: right or not, which row came first, was it the query's own language."""

    hits_N: Bool
    nearest_N: Int64
    own_language_N: Bool
    lang_N: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """Share of all queries whose nearest is a translation."""
        return float(self.hits_N.mean())

    @property
    def language_bias(self) -> float:
        """Share of all queries whose nearest is in the query's own language."""
        return float(self.own_language_N.mean())

    def rows_of(self, lang: str) -> Int64:
        """Rows whose query is in ``lang``."""
        return np.flatnonzero(np.asarray(self.lang_N) == lang)

    def by_language(self) -> dict[str, tuple[float, float]]:
        """Language -> (accuracy, language bias) of its queries."""
        out = {}
        for lang in sorted(set(self.lang_N)):
            rows = self.rows_of(lang)
            out[lang] = (float(self.hits_N[rows].mean()), float(self.own_language_N[rows].mean()))
        return out


def pooled_retrieval(
    embeddings_ND: Float32,
    lang_N: Sequence[str],
    group_N: Sequence[Hashable],
    *,
    keys_N: Int64 | None = None,
    block: int = BLOCK_ROWS,
) -> PooledScores:
    """Language-agnostic retrieval: each sentence against all others of ALL languages.

    A hit: the nearest is a translation (same group, other language). A model whose vectors
    cluster by language finds unrelated sentences of the query's own language instead; that
    share is the language bias. (Roy et al. 2020, LAReQA, call the first strong alignment.)

    Args:
        embeddings_ND: one row per sentence.
        lang_N: language of each row.
        group_N: rows of one group translate each other.
        keys_N: text keys. Given: copies of the query in its own language are left out of its
            pool, and a text that stands in several groups is right for each of them.
        block: queries compared at once.

    Raises:
        DataError: fewer than two rows or columns of unequal length. ModelError: NaN.
    """
    vectors_ND = unit_rows(embeddings_ND, "pool")
    n = len(vectors_ND)
    if n < 2 or len(lang_N) != n or len(group_N) != n:
        raise DataError(
            f"pooled retrieval over {n} vectors, {len(lang_N)} languages, {len(group_N)} groups",
            "give one language and one group per vector, and at least two rows",
        )
    code_N = _text_codes(lang_N, range(n) if keys_N is None else keys_N.tolist())
    groups_of: dict[int, set[Hashable]] = {}
    for code, group in zip(code_N.tolist(), group_N, strict=True):
        groups_of.setdefault(code, set()).add(group)
    nearest_N = _nearest_other(vectors_ND, code_N, block)
    lang = np.asarray(lang_N)
    own_N = np.asarray(lang[nearest_N] == lang)
    hits_N = np.fromiter(
        (
            not own and not groups_of[a].isdisjoint(groups_of[b])
            for own, a, b in zip(own_N, code_N.tolist(), code_N[nearest_N].tolist(), strict=True)
        ),
        dtype=np.bool_,
        count=n,
    )
    return PooledScores(hits_N, nearest_N, own_N, tuple(lang_N))


def _text_codes(lang_N: Sequence[str], keys_N: Sequence[int]) -> Int64:
    """One number per distinct (language, text)."""
    number: dict[tuple[str, int], int] = {}
    rows = zip(lang_N, keys_N, strict=True)
    return np.array([number.setdefault(row, len(number)) for row in rows], dtype=np.int64)


def _nearest_other(vectors_ND: Float32, code_N: Int64, block: int) -> Int64:
    nearest_N = np.empty(len(vectors_ND), np.int64)
    for start in range(0, len(vectors_ND), block):
        stop = start + block
        sim_bN = vectors_ND[start:stop] @ vectors_ND.T
        sim_bN[code_N[start:stop, None] == code_N[None, :]] = -np.inf
        nearest_N[start:stop] = sim_bN.argmax(axis=1)
    return nearest_N
