"""What encoders overlook: copies, wrong script, digits and lengths that disagree."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import langcodes
import numpy as np
import numpy.typing as npt

from xalign_dist.records import Float32

Bool = npt.NDArray[np.bool_]

# What is left of the confidence. Digits and lengths disagree in good translations too ("two" and
# "2"; about 2 % of software text), so they weaken a pair and do not condemn it.
DIGITS_FACTOR = 0.75
LENGTH_FACTOR = 0.6
SCRIPT_FACTOR = 0.1

LENGTH_PADDING = 15
LENGTH_LOG_SPREAD = 4.0
LEAST_LENGTH_SPREAD = 0.2
LEAST_SCRIPT_LETTERS = 4

_DIGITS = re.compile(r"\d+(?:[.,\u066b\u066c\u00a0\u202f]\d+)*")
_SCRIPT_WORDS = {
    "Arab": ("ARABIC",), "Armn": ("ARMENIAN",), "Beng": ("BENGALI",), "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",), "Ethi": ("ETHIOPIC",), "Geor": ("GEORGIAN",), "Grek": ("GREEK",),
    "Gujr": ("GUJARATI",), "Guru": ("GURMUKHI",), "Hans": ("CJK",), "Hant": ("CJK",), "Hebr": ("HEBREW",),
    "Jpan": ("CJK", "HIRAGANA", "KATAKANA"), "Khmr": ("KHMER",), "Knda": ("KANNADA",),
    "Kore": ("HANGUL", "CJK"), "Laoo": ("LAO",), "Latn": ("LATIN",), "Mlym": ("MALAYALAM",),
    "Mymr": ("MYANMAR",), "Orya": ("ORIYA",), "Sinh": ("SINHALA",), "Taml": ("TAMIL",),
    "Telu": ("TELUGU",), "Thai": ("THAI",), "Tibt": ("TIBETAN",),
}  # fmt: skip


class Features(NamedTuple):
    """One value per pair.

    ``copy_N``: the target is the source. ``digits_N``: their numbers disagree. ``length_N``: their
    lengths do. ``script_N``: the target is not written in its language's script.
    """

    copy_N: Bool
    digits_N: Bool
    length_N: Bool
    script_N: Bool

    def factor(self) -> Float32:
        """What is left of each pair's confidence, float32 ``[N]`` in [0, 1]; a copy keeps nothing."""
        left = np.where(self.digits_N, DIGITS_FACTOR, 1.0) * np.where(self.length_N, LENGTH_FACTOR, 1.0)
        left *= np.where(self.script_N, SCRIPT_FACTOR, 1.0)
        return np.where(self.copy_N, 0.0, left).astype(np.float32)


def pair_features(src: Sequence[str], tgt: Sequence[str], tgt_lang: str) -> Features:
    """Features of the pairs of one language pair.

    Args:
        src: source texts.
        tgt: target texts, one each.
        tgt_lang: ISO 639-3 of all of ``tgt``.
    """
    scripts = script_words(tgt_lang)
    count = len(src)
    script_N = np.fromiter((wrong_script(t, scripts) for t in tgt), np.bool_, count)
    if count and script_N.mean() > 0.5:
        # The corpus is in the language's other script (Serbian, Uzbek): nothing is odd about it.
        script_N = np.zeros(count, np.bool_)
    return Features(
        np.fromiter((is_copy(s, t) for s, t in zip(src, tgt, strict=True)), np.bool_, count),
        np.fromiter((numbers(s) != numbers(t) for s, t in zip(src, tgt, strict=True)), np.bool_, count),
        odd_lengths(src, tgt),
        script_N,
    )


def is_copy(src: str, tgt: str) -> bool:
    """Whether both are the same text, case and white space aside, with a letter in it.

    Texts without letters (numbers, placeholders) are their own translation.
    """
    same = " ".join(src.casefold().split()) == " ".join(tgt.casefold().split())
    return same and any(c.isalpha() for c in src)


def numbers(text: str) -> Counter[str]:
    """The numbers of a text in any script's digits, without their separators, and how often each occurs."""
    found = _DIGITS.findall(text)
    return Counter(
        "".join(str(unicodedata.digit(c)) for c in n if c.isdecimal()).lstrip("0") or "0" for n in found
    )


def odd_lengths(src: Sequence[str], tgt: Sequence[str]) -> Bool:
    """Where the length ratio is far from that of the corpus, bool ``[N]``.

    The ratio is log((chars of target + 15) / (chars of source + 15)); far is four robust standard
    deviations (1.4826 times the median absolute deviation) from its median.
    """
    if not len(src):
        return np.zeros(0, np.bool_)
    long_N = np.array([len(t) for t in tgt]) + LENGTH_PADDING
    log_N = np.log(long_N / (np.array([len(s) for s in src]) + LENGTH_PADDING))
    away = np.abs(log_N - np.median(log_N))
    spread = max(1.4826 * float(np.median(away)), LEAST_LENGTH_SPREAD)
    return np.asarray(away > LENGTH_LOG_SPREAD * spread)


@lru_cache(maxsize=256)
def script_words(lang: str) -> tuple[str, ...]:
    """First words of the Unicode names of the letters that ``lang`` is written in; empty: not known."""
    return _SCRIPT_WORDS.get(langcodes.get(lang).maximize().script or "", ())


def wrong_script(text: str, words: tuple[str, ...]) -> bool:
    """Whether none of its letters (at least four) is of the scripts ``words``.

    One is enough: software text is full of names and placeholders in Latin letters.
    """
    letters = [c for c in text if c.isalpha()] if words else []
    if len(letters) < LEAST_SCRIPT_LETTERS:
        return False
    return not any(unicodedata.name(c, "").startswith(words) for c in letters)
