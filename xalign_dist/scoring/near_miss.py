"""Near misses: text that says almost the same, made from the corpus, and a score that tells it apart.

Five kinds: text left out, text added, a number changed, words in another order, a neighbour's
translation. Their vectors need no encoder: a mean-pooled vector of two texts in one is about the mean
of both, weighted by length; so is, seen from the other side, that of a text which says half.
Numbers and word order hardly move a vector: there it stays, and only the text tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from xalign_dist.records import Float32, Int64
from xalign_dist.scoring.similarity import Neighbourhood
from xalign_dist.scoring.traits import NAMES, Norms, Traits, agreement, norms, traits

Float64 = npt.NDArray[np.float64]

LEFT_OUT, ADDED, NUMBER, ORDER, NEIGHBOUR = range(5)
# Neighbours are learned apart as well, from their vectors alone: of all kinds together the text
# tells so much that unrelated sentences of like shape would pass.
GROUPS = {"near misses": (LEFT_OUT, ADDED, NUMBER, ORDER, NEIGHBOUR), "neighbour's text": (NEIGHBOUR,)}

LEAST_WORDS = 4
LEAST_MISSES = 20
_DIGIT_RUN = re.compile(r"\d+")
REGULARISATION = 1.0
MARKS = [1 + NAMES.index(name) for name in ("ending", "first letter", "sentences")]
"""Columns of the features, the cosine being the first."""
MOST_OF_A_MARK = 2.0
"""Standard deviations."""


class NearMisses(NamedTuple):
    """M near misses: kind (as in :data:`GROUPS`), row of the source, target's text, cosine of both."""

    kind_M: Int64
    row_M: Int64
    text: list[str]
    cosine_M: Float32

    @staticmethod
    def merge(parts: Sequence[NearMisses]) -> NearMisses:
        """Those of all parts, whose rows count over the whole already."""
        return NearMisses(
            np.concatenate([np.zeros(0, np.int64), *(p.kind_M for p in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(p.row_M for p in parts)]),
            [t for p in parts for t in p.text],
            np.concatenate([np.zeros(0, np.float32), *(p.cosine_M for p in parts)]),
        )

    @staticmethod
    def of(kind: int, row_M: Int64, text: list[str], cosine_M: npt.ArrayLike) -> NearMisses:
        """All of one kind."""
        return NearMisses(np.full(len(row_M), kind), row_M, text, np.asarray(cosine_M, np.float32))

    def only(self, kinds: Sequence[int]) -> NearMisses:
        """Those of some kinds."""
        at = np.flatnonzero(np.isin(self.kind_M, kinds))
        return NearMisses(self.kind_M[at], self.row_M[at], [self.text[i] for i in at], self.cosine_M[at])


@dataclass(frozen=True)
class NearMissScore:
    """Log odds of an observed pair against near misses: a logistic regression on few features.

    The density ratio of observed and decoys is what local false discovery needs, and the odds of
    a classifier between both are that ratio (Qin 1998; Sugiyama 2012).
    """

    usual: Norms
    centre_F: Float64
    scale_F: Float64
    weight_F: Float64
    bias: float

    def __call__(self, cosine_N: Float32, src: Traits, tgt: Traits) -> Float64:
        """Scores ``[N]``; higher is more like a whole translation."""
        scaled_NF = (_features(cosine_N, src, tgt, self.usual) - self.centre_F) / self.scale_F
        # A mark that near misses never show is rare in sound text too: it may not decide by itself.
        scaled_NF[:, MARKS] = np.clip(scaled_NF[:, MARKS], -MOST_OF_A_MARK, MOST_OF_A_MARK)
        return np.asarray(scaled_NF @ self.weight_F + self.bias)


def _features(cosine_N: Float32, src: Traits, tgt: Traits, usual: Norms) -> Float64:
    return np.column_stack([np.asarray(cosine_N, np.float64), agreement(src, tgt, usual)])


def near_misses(
    src: Sequence[str],
    tgt: Sequence[str],
    near: Neighbourhood,
    row_M: Int64,
    rng: np.random.Generator,
) -> NearMisses:
    """One near miss of each kind for each row that allows it.

    Args:
        src: source texts of a block, N.
        tgt: their targets.
        near: of the block's vectors.
        row_M: rows to make near misses of.
        rng: decides cuts, orders, numbers.
    """
    other_M = row_M[rng.permutation(len(row_M))]
    vector = _Vectors(near, src, tgt)
    parts = [_neighbours(near, tgt, row_M), _left_out(tgt, vector, row_M, other_M, rng)]
    parts.append(_added(tgt, vector, row_M, other_M))
    parts.append(_changed(NUMBER, tgt, vector, row_M, lambda t: _other_number(t, rng)))
    parts.append(_changed(ORDER, tgt, vector, row_M, lambda t: _other_order(t, rng)))
    return NearMisses.merge(parts)


class _Vectors:
    """Vectors of a block's rows and of two texts in one."""

    def __init__(self, near: Neighbourhood, src: Sequence[str], tgt: Sequence[str]) -> None:
        self.src_ND = near.src_UD[near.src_key_N]
        self.tgt_ND = near.tgt_VD[near.tgt_key_N]
        self.src_len_N = np.array([len(t) for t in src], np.float32)
        self.tgt_len_N = np.array([len(t) for t in tgt], np.float32)

    def cosine(self, row_M: Int64) -> Float32:
        """Of the pairs ``row_M``."""
        return np.asarray(np.einsum("md,md->m", self.src_ND[row_M], self.tgt_ND[row_M]), np.float32)


def _both(vector_ND: Float32, len_N: Float32, row_M: Int64, other_M: Int64) -> Float32:
    """Unit vectors of text ``row_M[i]`` and ``other_M[i]`` in one."""
    whole = vector_ND[row_M] * len_N[row_M, None] + vector_ND[other_M] * len_N[other_M, None]
    return np.asarray(whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-9), np.float32)


def _neighbours(near: Neighbourhood, tgt: Sequence[str], row_M: Int64) -> NearMisses:
    """The translation most like the source that is not its own."""
    first_V = np.zeros(len(near.tgt_VD), np.int64)
    first_V[near.tgt_key_N[::-1]] = np.arange(len(tgt))[::-1]
    found = near.nearest_other(row_M)
    real = found >= 0
    row_M, found = row_M[real], found[real]
    cosine = np.einsum("md,md->m", near.src_UD[near.src_key_N[row_M]], near.tgt_VD[found])
    return NearMisses.of(NEIGHBOUR, row_M, [tgt[i] for i in first_V[found]], cosine)


def _left_out(
    tgt: Sequence[str], vector: _Vectors, row_M: Int64, other_M: Int64, rng: np.random.Generator
) -> NearMisses:
    keep = [i for i, row in enumerate(row_M) if row != other_M[i] and len(_units(tgt[row])) >= LEAST_WORDS]
    row, other = row_M[keep], other_M[keep]
    text = []
    for r in row:
        units = _units(tgt[r])
        text.append(_joined(units[: max(1, round(len(units) * rng.uniform(0.3, 0.7)))], tgt[r]))
    longer = _both(vector.src_ND, vector.src_len_N, row, other)
    return NearMisses.of(LEFT_OUT, row, text, np.einsum("md,md->m", longer, vector.tgt_ND[row]))


def _added(tgt: Sequence[str], vector: _Vectors, row_M: Int64, other_M: Int64) -> NearMisses:
    differ = row_M != other_M
    row, other = row_M[differ], other_M[differ]
    longer = _both(vector.tgt_ND, vector.tgt_len_N, row, other)
    text = [f"{tgt[a]} {tgt[b]}" for a, b in zip(row, other, strict=True)]
    return NearMisses.of(ADDED, row, text, np.einsum("md,md->m", vector.src_ND[row], longer))


def _changed(
    kind: int, tgt: Sequence[str], vector: _Vectors, row_M: Int64, change: Callable[[str], str]
) -> NearMisses:
    texts = [change(tgt[row]) for row in row_M]
    keep = [i for i, row in enumerate(row_M) if texts[i] != tgt[row]]
    row = row_M[keep]
    return NearMisses.of(kind, row, [texts[i] for i in keep], vector.cosine(row))


def _other_number(text: str, rng: np.random.Generator) -> str:
    found = list(_DIGIT_RUN.finditer(text))
    if not found:
        return text
    at = found[int(rng.integers(len(found)))]
    value = int(at.group()) if len(at.group()) < 12 else 0
    return f"{text[: at.start()]}{value + 1 + int(rng.integers(9))}{text[at.end() :]}"


def _other_order(text: str, rng: np.random.Generator) -> str:
    units = _units(text)
    if len(units) < LEAST_WORDS:
        return text
    return _joined([units[i] for i in rng.permutation(len(units))], text)


def _units(text: str) -> list[str]:
    """Words; characters where the script writes no spaces."""
    words = text.split()
    return words if len(words) >= LEAST_WORDS or text.isascii() else list(text)


def _joined(units: list[str], text: str) -> str:
    return (" " if len(text.split()) >= LEAST_WORDS or text.isascii() else "").join(units)


def fit(
    src: Traits,
    tgt: Traits,
    cosine_N: Float32,
    weight_N: Float64,
    misses: NearMisses,
    *,
    text: bool,
) -> NearMissScore:
    """Learn the score from observed pairs against near misses of them.

    Args:
        src: of the N source texts.
        tgt: of their targets.
        cosine_N: of the pairs.
        weight_N: probability that each is no mismatch, by random decoys.
        misses: near misses of some of these rows.
        text: whether traits of the texts count beside the cosine.
    """
    row_M = misses.row_M
    usual = norms(src, tgt, weight_N)
    good_NF = _features(cosine_N, src, tgt, usual)
    bad_MF = _features(misses.cosine_M, src.take(row_M), traits(misses.text), usual)
    bad_weight_M = np.maximum(weight_N[row_M], 1e-3)
    centre = np.average(good_NF, axis=0, weights=weight_N)
    scale = np.maximum(np.concatenate([good_NF, bad_MF]).std(axis=0), 1e-6)
    used_F = np.r_[True, np.full(good_NF.shape[1] - 1, text)]
    features = (np.concatenate([good_NF, bad_MF]) - centre) / scale * used_F
    labels = np.r_[np.ones(len(good_NF)), np.zeros(len(bad_MF))]
    weights = np.r_[weight_N / weight_N.sum(), bad_weight_M / bad_weight_M.sum()] * weight_N.sum()
    model = LogisticRegression(C=REGULARISATION, max_iter=200)
    model.fit(features, labels, sample_weight=weights)
    return NearMissScore(usual, centre, scale, model.coef_[0] * used_F, float(model.intercept_[0]))
