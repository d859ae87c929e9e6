"""What of a text its translation should share: length, ending, first letter, numbers, sentences.

Encoders look away from most of it: of a sentence with a number changed or its words in another
order, e5-small's cosine is nearly that of the right one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xalign_dist.records import Int64

Float64 = npt.NDArray[np.float64]

NAMES = ("too long", "too short", "ending", "first letter", "numbers", "one-sided numbers", "sentences")

LENGTH_PADDING = 15
LEAST_LENGTH_SPREAD = 0.1
FURTHEST = 6.0
MOST_SENTENCES = 3

_NUMBER = re.compile(r"\d+(?:[.,\u066b\u066c\u00a0\u202f]\d+)*")
_SENTENCE_END = re.compile(r"[.!?\u061f\u0964][\"'\u00bb\u201d\u2019)]*(?=\s|$)|[\u3002\uff01\uff1f\u1362]")
_CLOSING = " \t\n\"'\u201d\u201c\u2019\u00bb)]\u300d\u300f\u203a*_"
# Ending: what kind of sign closes the text. Full stops of Latin, CJK, Devanagari, Ethiopic, Arabic.
_ENDINGS = {
    **dict.fromkeys(".\u3002\uff0e\u0964\u1362\u06d4", 1),
    **dict.fromkeys("!\uff01", 2),
    **dict.fromkeys("?\uff1f\u061f", 3),
    **dict.fromkeys(":\uff1a\u1361\u1365", 4),
}
_OTHER_PUNCTUATION, _NO_PUNCTUATION = 5, 0
_ENDING_KINDS, _FIRST_KINDS = 6, 4


class Traits(NamedTuple):
    """Of N texts, ``[N]`` each: characters, kind of ending, kind of first letter, sentences; and numbers."""

    length_N: Int64
    ending_N: Int64
    first_N: Int64
    sentences_N: Int64
    numbers: list[Counter[str]]

    def take(self, row_M: Int64) -> Traits:
        """Of the texts ``row_M``."""
        return Traits(
            self.length_N[row_M],
            self.ending_N[row_M],
            self.first_N[row_M],
            self.sentences_N[row_M],
            [self.numbers[i] for i in row_M],
        )


class Norms(NamedTuple):
    """What is usual in a corpus: log length ratio, and which ending and first letter follows which.

    Attributes:
        ratio: median of log((target + 15) / (source + 15)), in characters.
        spread: its robust standard deviation (1.4826 times the median absolute deviation).
        ending_EE: log probability of the target's ending (column) after the source's (row).
        first_FF: the same for first letters.
    """

    ratio: float
    spread: float
    ending_EE: Float64
    first_FF: Float64


def traits(texts: Sequence[str]) -> Traits:
    """The traits of ``texts``."""
    count = len(texts)

    def column(values: list[int]) -> Int64:
        return np.array(values, np.int64).reshape(count)

    return Traits(
        column([len(t) for t in texts]),
        column([_ending(t) for t in texts]),
        column([_first(t) for t in texts]),
        column([len(_SENTENCE_END.findall(t)) for t in texts]),
        [numbers(t) for t in texts],
    )


def norms(src: Traits, tgt: Traits, weight_N: Float64) -> Norms:
    """What is usual among pairs, those with more weight counting for more in the tables.

    Args:
        src: of N source texts.
        tgt: of their targets.
        weight_N: how sure it is that each is a translation, in [0, 1].
    """
    log_N = _log_ratio(src, tgt)
    use = log_N[weight_N > 0.5] if (weight_N > 0.5).any() else log_N
    ratio = float(np.median(use)) if len(use) else 0.0
    spread = 1.4826 * float(np.median(np.abs(use - ratio))) if len(use) else 0.0
    return Norms(
        ratio,
        max(spread, LEAST_LENGTH_SPREAD),
        _log_table(src.ending_N, tgt.ending_N, weight_N, _ENDING_KINDS),
        _log_table(src.first_N, tgt.first_N, weight_N, _FIRST_KINDS),
    )


def agreement(src: Traits, tgt: Traits, usual: Norms) -> Float64:
    """How far each pair is from what is usual, ``[N, len(NAMES)]``; 0 is agreement in every column.

    Lengths in robust standard deviations; endings and first letters as -log probability;
    numbers and sentences as how many disagree.
    """
    z_N = np.clip((_log_ratio(src, tgt) - usual.ratio) / usual.spread, -FURTHEST, FURTHEST)
    differ = [_differences(s, t) for s, t in zip(src.numbers, tgt.numbers, strict=True)]
    differ_N2 = np.array(differ, np.float64).reshape(len(differ), 2)
    sentences_N = np.abs(src.sentences_N - tgt.sentences_N)
    columns = [
        np.maximum(z_N, 0),
        np.maximum(-z_N, 0),
        -usual.ending_EE[src.ending_N, tgt.ending_N],
        -usual.first_FF[src.first_N, tgt.first_N],
        np.minimum(differ_N2[:, 0], 2),
        np.minimum(differ_N2[:, 1], 2),
        np.minimum(sentences_N, MOST_SENTENCES),
    ]
    return np.stack([np.asarray(c, np.float64) for c in columns], axis=1)


def numbers(text: str) -> Counter[str]:
    """The numbers of a text in any script's digits, without their separators, and how often each occurs."""
    return Counter(
        "".join(str(unicodedata.digit(c)) for c in n if c.isdecimal()).lstrip("0") or "0"
        for n in _NUMBER.findall(text)
    )


def _differences(src: Counter[str], tgt: Counter[str]) -> tuple[int, int]:
    """(numbers that another number stands for, numbers that nothing stands for)."""
    missing, extra = (src - tgt).total(), (tgt - src).total()
    return min(missing, extra), abs(missing - extra)


def _log_ratio(src: Traits, tgt: Traits) -> Float64:
    ratio = (tgt.length_N + LENGTH_PADDING) / (src.length_N + LENGTH_PADDING)
    return np.asarray(np.log(ratio), np.float64)


def _log_table(src_N: Int64, tgt_N: Int64, weight_N: Float64, kinds: int) -> Float64:
    counts = np.bincount(src_N * kinds + tgt_N, weight_N, kinds * kinds).reshape(kinds, kinds)
    # Seen nowhere else is no surprise: each row leans on what targets end in at all.
    overall = (counts.sum(axis=0) + 1) / (counts.sum() + kinds)
    table = (counts + 5 * overall) / (counts.sum(axis=1, keepdims=True) + 5)
    return np.asarray(np.log(table), np.float64)


def _ending(text: str) -> int:
    bare = text.rstrip(_CLOSING)
    if not bare:
        return _NO_PUNCTUATION
    other = _OTHER_PUNCTUATION if unicodedata.category(bare[-1])[0] == "P" else _NO_PUNCTUATION
    return _ENDINGS.get(bare[-1], other)


def _first(text: str) -> int:
    """0 no letter or digit, 1 a letter without case, 2 upper case or a digit, 3 lower case."""
    for char in text:
        if char.isalnum():
            if not char.isalpha() or char.isupper():
                return 2
            return 3 if char.islower() else 1
    return 0
