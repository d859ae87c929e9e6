"""Vectors of words as means of their states in sentences (Vulic et al. 2020: contexts beat words alone)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from xalign_dist.errors import ModelError
from xalign_dist.evaluation.context import TokenStatesFn
from xalign_dist.evaluation.scores import Bool
from xalign_dist.records import Float32

UNSPACED = frozenset({"zho", "yue", "jpn", "tha", "lao", "khm", "mya", "bod"})
_AT_ONCE = 256


class Context(NamedTuple):
    """A sentence split into words, and which row of the vocabulary stands at ``place``."""

    tokens: Sequence[str]
    place: int
    row: int


def word_vectors(
    words: Sequence[str], lang: str, sentences: Iterable[str], states: TokenStatesFn, most: int
) -> tuple[Float32, Bool]:
    """One vector per word, and whether it was met in a sentence.

    The mean of its states in the first ``most`` sentences in which it stands; a word that stands in none
    has its state as a sentence of its own. Case and punctuation around a word do not matter.

    Args:
        words: distinct.
        lang: ISO 639-3; in languages written without spaces a word is looked for as a substring.
        sentences: of that language.
        states: of the words of split sentences, ``[T, D]`` each.
        most: contexts per word.

    Returns:
        float32 ``[N, D]`` and bool ``[N]``.

    Raises:
        ModelError: not one state per word.
    """
    row_of: dict[str, list[int]] = {}
    for row, word in enumerate(words):
        row_of.setdefault(bare(word), []).append(row)
    found = list(_contexts(row_of, lang, sentences, most))
    met_N = np.zeros(len(words), bool)
    met_N[[c.row for c in found]] = True
    found += [Context([words[row]], 0, row) for row in np.flatnonzero(~met_N).tolist()]
    sums: Float32 | None = None
    count_N = np.zeros(len(words), np.float32)
    for start in range(0, len(found), _AT_ONCE):
        part = found[start : start + _AT_ONCE]
        # A sentence that holds several of the words is read once.
        split = {tuple(c.tokens): None for c in part}
        by_tokens = dict(zip(split, states([list(t) for t in split]), strict=True))
        for context in part:
            rows_TD = by_tokens[tuple(context.tokens)]
            if len(rows_TD) != len(context.tokens):
                raise ModelError("not one state per word", "return [words, D] per sentence")
            if sums is None:
                sums = np.zeros((len(words), rows_TD.shape[1]), np.float32)
            sums[context.row] += rows_TD[context.place]
            count_N[context.row] += 1
    if sums is None:
        return np.zeros((0, 0), np.float32), met_N
    return np.asarray(sums / count_N[:, None], np.float32), met_N


def bare(word: str) -> str:
    """Casefolded, without punctuation and symbols at its ends; a word of nothing else stays."""
    start, end = 0, len(word)
    while start < end and unicodedata.category(word[start])[0] in "PS":
        start += 1
    while end > start and unicodedata.category(word[end - 1])[0] in "PS":
        end -= 1
    return (word[start:end] or word).casefold()


def _contexts(
    row_of: Mapping[str, Sequence[int]], lang: str, sentences: Iterable[str], most: int
) -> Iterator[Context]:
    missing = dict.fromkeys(row_of, most)
    longest = max(map(len, row_of), default=0)
    for sentence in dict.fromkeys(sentences):
        if not missing:
            return
        places = _substrings(sentence, missing, longest) if lang in UNSPACED else _places(sentence, missing)
        for word, tokens, place in places:
            for row in row_of[word]:
                yield Context(tokens, place, row)
            missing[word] -= 1
            if not missing[word]:
                del missing[word]


def _places(sentence: str, wanted: Mapping[str, int]) -> list[tuple[str, list[str], int]]:
    """(word, the sentence's words, place) of the first place of each wanted word."""
    tokens = sentence.split()
    first: dict[str, int] = {}
    for place, token in enumerate(tokens):
        word = bare(token)
        if word in wanted:
            first.setdefault(word, place)
    return [(word, tokens, place) for word, place in first.items()]


def _substrings(sentence: str, wanted: Mapping[str, int], longest: int) -> list[tuple[str, list[str], int]]:
    """The same where no spaces tell words apart: the sentence is cut around the word."""
    first: dict[str, tuple[int, int]] = {}
    for start in range(len(sentence)):
        for end in range(start + 1, min(start + longest, len(sentence)) + 1):
            word = sentence[start:end].casefold()
            if word in wanted:
                first.setdefault(word, (start, end))
    out = []
    for word, (start, end) in first.items():
        parts = [sentence[:start], sentence[start:end], sentence[end:]]
        tokens = [p for p in parts if p.strip()]
        out.append((word, tokens, 1 if parts[0].strip() else 0))
    return out
