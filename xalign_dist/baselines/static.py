"""Static vectors: the mean of a text's word-embedding rows, mapped to English by a rotation.

What cross-lingual word embeddings gave before contextual encoders: no context, no order, one
linear map per language. The rows are those of an encoder's own embedding matrix, or any
``[V, D]`` matrix with a tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import orthogonal_procrustes
from sklearn.preprocessing import normalize

from xalign_dist.errors import DataError, ModelError
from xalign_dist.records import ENGLISH, EmbedFn, Float32, Int64

TokenIdsFn = Callable[[Sequence[str]], Sequence[Sequence[int]]]
"""Texts -> token ids, without special tokens."""

Rotation = npt.NDArray[np.float32]
Pairs = tuple[Sequence[str], Sequence[str]]
"""English texts, and their translations row by row."""

_MIN_REFINE = 20
_CSLS_NEIGHBOURS = 10
_BLOCK_ROWS = 1024


class StaticEmbedder:
    """Mean of embedding rows, centred; with :meth:`fit` a rotation per language.

    Args:
        tokenize: texts -> token ids.
        vectors_VD: one row per token id.
        weights_V: weight of each token in the mean. None: all weigh 1. See :func:`rank_weights`.

    Raises:
        ModelError: the matrix is not two-dimensional or not finite, or weights do not fit it.
    """

    def __init__(
        self, tokenize: TokenIdsFn, vectors_VD: Float32, weights_V: npt.ArrayLike | None = None
    ) -> None:
        matrix = np.asarray(vectors_VD, np.float32)
        if matrix.ndim != 2 or not np.isfinite(matrix).all():
            raise ModelError(f"embedding matrix of shape {matrix.shape}", "give a finite [tokens, D] matrix")
        weights = np.ones(len(matrix)) if weights_V is None else np.asarray(weights_V, np.float64)
        if weights.shape != (len(matrix),):
            raise ModelError(f"{weights.shape} weights for {len(matrix)} tokens", "give one weight per token")
        self._tokenize = tokenize
        self._vectors_VD = matrix
        self._weights_V = weights.astype(np.float32)
        self._centre: dict[str, Float32] = {}
        self._rotation: dict[str, Rotation] = {}

    def __call__(self, texts: Sequence[str]) -> Float32:
        """Unit vectors without centring or rotation, float32 ``[N, D]``; 0 without known tokens."""
        return _unit(self._mean(texts))

    def fit(self, pairs: Mapping[str, Pairs], *, rotate: bool = True, refine: int = 3) -> Self:
        """Learn each language's centre, and its rotation onto English.

        Orthogonal Procrustes (Schoenemann 1966): ``argmin_W ||Y W - X||``, W orthogonal, on the
        training pairs. Refinement (Conneau et al. 2018): pairs that are each other's best by CSLS
        under the current map are added to the anchors, and the map is fitted again.

        Args:
            pairs: language -> (English texts, texts in the language), aligned.
            rotate: False leaves the space as it is but for centring.
            refine: rounds of refinement, each over all texts given.

        Returns:
            self.

        Raises:
            DataError: sides of unequal length, or a language without pairs.
        """
        for lang, (english, other) in pairs.items():
            if len(english) != len(other) or not len(english):
                raise DataError(
                    f"static baseline, {lang}: {len(english)} English texts, {len(other)} translations",
                    "give aligned training pairs",
                )
        means = {lang: (self._mean(e), self._mean(o)) for lang, (e, o) in pairs.items()}
        if means:
            self._centre[ENGLISH] = np.concatenate([e for e, _ in means.values()]).mean(axis=0)
        for lang, (english_ND, other_ND) in means.items():
            self._centre[lang] = other_ND.mean(axis=0)
            if rotate:
                x = _unit(english_ND - self._centre[ENGLISH])
                y = _unit(other_ND - self._centre[lang])
                self._rotation[lang] = refined_rotation(x, y, refine)
        return self

    def for_language(self, lang: str) -> EmbedFn:
        """The map of one language: centred and rotated onto English.

        A language that was not fitted uses English's centre and no rotation.
        """
        centre = self._centre.get(lang, self._centre.get(ENGLISH))
        rotation = self._rotation.get(lang)

        def embed(texts: Sequence[str]) -> Float32:
            rows_ND = self._mean(texts)
            if centre is not None:
                # A text without known tokens stays at zero: far from everything, not at -centre.
                rows_ND = np.where(rows_ND.any(axis=1, keepdims=True), rows_ND - centre, 0.0)
            rows_ND = _unit(rows_ND)
            return rows_ND if rotation is None else _unit(rows_ND @ rotation)

        return embed

    def embedder(self, language_of: Callable[[Sequence[str]], Sequence[str]]) -> EmbedFn:
        """One :class:`EmbedFn` for texts of all languages.

        Args:
            language_of: texts -> their languages, ISO 639-3. Static maps are per language, so the
                language must be known; an identifier, or a lookup of the texts evaluated.
        """

        def embed(texts: Sequence[str]) -> Float32:
            languages = np.asarray(language_of(texts))
            out_ND = np.zeros((len(texts), self._vectors_VD.shape[1]), np.float32)
            for lang in np.unique(languages):
                rows = np.flatnonzero(languages == lang).tolist()
                out_ND[rows] = self.for_language(str(lang))([texts[i] for i in rows])
            return out_ND

        return embed

    def _mean(self, texts: Sequence[str]) -> Float32:
        out_ND = np.zeros((len(texts), self._vectors_VD.shape[1]), np.float32)
        for row, ids in enumerate(self._tokenize(texts)):
            if len(ids):
                index = np.asarray(ids, np.int64)
                if index.min() < 0 or index.max() >= len(self._vectors_VD):
                    raise ModelError(
                        f"token id {int(index.max())} outside a matrix of {len(self._vectors_VD)} rows",
                        "use the tokenizer that the matrix belongs to",
                    )
                weight = self._weights_V[index]
                out_ND[row] = weight @ self._vectors_VD[index] / max(float(weight.sum()), 1e-12)
        return out_ND


def rank_weights(size: int) -> npt.NDArray[np.float64]:
    """Weight of each token by its rank, ``log(1 + id)``: vocabularies are sorted by frequency.

    A stand-in for inverse document frequency where no counts are at hand (sentencepiece and
    word lists number frequent tokens first).
    """
    return np.log1p(np.arange(size, dtype=np.float64))


def rotation_onto(english_ND: Float32, other_ND: Float32) -> Rotation:
    """The orthogonal ``W`` that minimises ``||other W - english||``, float32 ``[D, D]``."""
    return np.asarray(orthogonal_procrustes(other_ND, english_ND)[0], np.float32)


def refined_rotation(english_ND: Float32, other_ND: Float32, rounds: int) -> Rotation:
    """:func:`rotation_onto`, refitted on the given pairs and the mutual best by CSLS."""
    rotation = rotation_onto(english_ND, other_ND)
    for _ in range(rounds if len(english_ND) >= _MIN_REFINE else 0):
        rows, columns = _mutual_csls(other_ND @ rotation, english_ND)
        anchors = np.concatenate([english_ND, english_ND[columns]])
        rotation = rotation_onto(anchors, np.concatenate([other_ND, other_ND[rows]]))
    return rotation


def _mutual_csls(query_ND: Float32, base_MD: Float32) -> tuple[Int64, Int64]:
    """Rows of queries and candidates that are each other's best by CSLS."""
    query_mean_N, base_mean_M = _neighbour_means(query_ND, base_MD), _neighbour_means(base_MD, query_ND)
    forward_N = _best(query_ND, base_MD, base_mean_M)
    backward_M = _best(base_MD, query_ND, query_mean_N)
    rows = np.flatnonzero(backward_M[forward_N] == np.arange(len(query_ND)))
    return rows, forward_N[rows]


def _neighbour_means(query_ND: Float32, base_MD: Float32) -> Float32:
    k = min(_CSLS_NEIGHBOURS, len(base_MD))
    parts = [np.partition(sim_bM, -k, axis=1)[:, -k:].mean(axis=1) for sim_bM in _blocks(query_ND, base_MD)]
    return np.concatenate(parts)


def _best(query_ND: Float32, base_MD: Float32, hub_M: Float32) -> Int64:
    return np.concatenate([(2 * sim_bM - hub_M).argmax(axis=1) for sim_bM in _blocks(query_ND, base_MD)])


def _blocks(query_ND: Float32, base_MD: Float32) -> Iterator[Float32]:
    for start in range(0, len(query_ND), _BLOCK_ROWS):
        yield query_ND[start : start + _BLOCK_ROWS] @ base_MD.T


def _unit(rows_ND: Float32) -> Float32:
    return np.asarray(normalize(rows_ND), np.float32) if len(rows_ND) else rows_ND
