"""What encoders overlook: copies, wrong script or language, digits and lengths that disagree."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import langcodes
import numpy as np
import numpy.typing as npt

from xalign_dist.cleaning.language import other_language
from xalign_dist.corpora.languages import UNDETERMINED
from xalign_dist.records import Float32
from xalign_dist.scoring.traits import Float64, numbers

Bool = npt.NDArray[np.bool_]

# What is left of the confidence. Digits and lengths disagree in good translations too ("two" and
# "2"; about 2 % of software text), so they weaken a pair and do not condemn it.
DIGITS_FACTOR = 0.75
LENGTH_FACTOR = 0.6
SCRIPT_FACTOR = 0.1
LANGUAGE_FACTOR = 0.05

# Of 8,000 clean sentences of 12 languages under 0.3 % are refused, of 600 in a wrong language 99 % are.
LEAST_IDENTIFIED = 0.5
LEAST_IDENTIFIED_CHARS = 20

LENGTH_PADDING = 15
LENGTH_LOG_SPREAD = 4.0
LEAST_LENGTH_SPREAD = 0.2
LEAST_SCRIPT_LETTERS = 4

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
    lengths do. ``script_N``: the target is not written in its language's script. ``language_N``:
    a side is in another language than it says.
    """

    copy_N: Bool
    digits_N: Bool
    length_N: Bool
    script_N: Bool
    language_N: Bool

    @staticmethod
    def unpack(bits_N: npt.NDArray[np.uint8]) -> Features:
        """The features that :meth:`pack` packed."""
        return Features(*(np.asarray(bits_N & (1 << i), np.bool_) for i in range(len(Features._fields))))

    def pack(self) -> npt.NDArray[np.uint8]:
        """One byte per pair, uint8 ``[N]``: a bit for each feature."""
        bits = [c.astype(np.uint8) << i for i, c in enumerate(self)]
        return np.asarray(np.sum(bits, axis=0), np.uint8)

    def take(self, row_M: npt.NDArray[np.int64]) -> Features:
        """Of the pairs ``row_M``."""
        return Features(*(c[row_M] for c in self))

    @property
    def wrong_N(self) -> Bool:
        """Pairs that their text alone condemns."""
        return self.copy_N | self.script_N | self.language_N

    def hard_factor(self) -> Float32:
        """What the text alone leaves of each pair's confidence, float32 ``[N]``; of a copy nothing."""
        left = np.where(self.script_N, SCRIPT_FACTOR, 1.0) * np.where(self.language_N, LANGUAGE_FACTOR, 1.0)
        return np.where(self.copy_N, 0.0, left).astype(np.float32)

    def soft_factor(self) -> Float32:
        """What digits and lengths leave, float32 ``[N]``; for where no near misses can be learned from."""
        left = np.where(self.digits_N, DIGITS_FACTOR, 1.0) * np.where(self.length_N, LENGTH_FACTOR, 1.0)
        return left.astype(np.float32)


class Usual(NamedTuple):
    """What is no fault in a corpus, because most of it is so.

    A corpus in the language's other script (Serbian, Uzbek) is not at fault, nor one whose dialect
    the identifier calls by another name. ``length`` and ``spread`` are of the log length ratio.
    """

    script: frozenset[str]
    tgt_language: frozenset[str]
    src_language: frozenset[str]
    length: float
    spread: float


def usual_features(
    src: Sequence[str], tgt: Sequence[str], tgt_lang: str, src_lang: str = UNDETERMINED
) -> Usual:
    """What is usual among the pairs of a corpus or a sample of it; arguments as :func:`pair_features`."""
    scripts, log_N = script_words(tgt_lang), _log_ratio(src, tgt)
    centre = float(np.median(log_N)) if len(log_N) else 0.0
    spread = 1.4826 * float(np.median(np.abs(log_N - centre))) if len(log_N) else 0.0
    return Usual(
        _most(wrong_script(t, scripts) for t in tgt),
        _most(_other(t, tgt_lang) for t in tgt),
        _most(_other(s, src_lang) for s in src),
        centre,
        max(spread, LEAST_LENGTH_SPREAD),
    )


def pair_features(
    src: Sequence[str],
    tgt: Sequence[str],
    tgt_lang: str,
    src_lang: str = UNDETERMINED,
    usual: Usual | None = None,
) -> Features:
    """Features of the pairs of one language pair.

    Args:
        src: source texts.
        tgt: target texts, one each.
        tgt_lang: ISO 639-3 of all of ``tgt``.
        src_lang: ISO 639-3 of all of ``src``; ``und``: their language is not looked at.
        usual: of the corpus that these pairs are from; None: they are all of it.
    """
    most = usual or usual_features(src, tgt, tgt_lang, src_lang)
    scripts = script_words(tgt_lang)

    def column(values: Iterable[bool]) -> Bool:
        return np.fromiter(values, np.bool_, len(src))

    both = list(zip(src, tgt, strict=True))
    tgt_fault_N = column(_unusual(_other(t, tgt_lang), most.tgt_language) for t in tgt)
    src_fault_N = column(_unusual(_other(s, src_lang), most.src_language) for s in src)
    return Features(
        column(is_copy(s, t) for s, t in both),
        column(numbers(s) != numbers(t) for s, t in both),
        np.asarray(np.abs(_log_ratio(src, tgt) - most.length) > LENGTH_LOG_SPREAD * most.spread),
        column(_unusual(wrong_script(t, scripts), most.script) for t in tgt),
        tgt_fault_N | src_fault_N,
    )


def _other(text: str, lang: str) -> str:
    """The language found instead of ``lang``, in words; empty where nothing speaks against it."""
    if lang == UNDETERMINED or len(text) < LEAST_IDENTIFIED_CHARS:
        return ""
    return (other_language(text, lang, LEAST_IDENTIFIED) or "").partition(" (")[0]


def _most(faults: Iterable[str]) -> frozenset[str]:
    """The fault that more than half of all have, if there is one."""
    counts = Counter(faults)
    return frozenset(fault for fault, count in counts.items() if fault and count > counts.total() / 2)


def _unusual(fault: str, usual: frozenset[str]) -> bool:
    return bool(fault) and fault not in usual


def is_copy(src: str, tgt: str) -> bool:
    """Whether both are the same text, case and white space aside, with a letter in it.

    Texts without letters (numbers, placeholders) are their own translation.
    """
    same = " ".join(src.casefold().split()) == " ".join(tgt.casefold().split())
    return same and any(c.isalpha() for c in src)


def odd_lengths(src: Sequence[str], tgt: Sequence[str]) -> Bool:
    """Where the length ratio is far from that of the corpus, bool ``[N]``.

    The ratio is log((chars of target + 15) / (chars of source + 15)); far is four robust standard
    deviations (1.4826 times the median absolute deviation) from its median.
    """
    return pair_features(src, tgt, UNDETERMINED).length_N


def _log_ratio(src: Sequence[str], tgt: Sequence[str]) -> Float64:
    long_N = np.array([len(t) for t in tgt], np.float64) + LENGTH_PADDING
    return np.asarray(np.log(long_N / (np.array([len(s) for s in src], np.float64) + LENGTH_PADDING)))


@lru_cache(maxsize=256)
def script_words(lang: str) -> tuple[str, ...]:
    """First words of the Unicode names of the letters that ``lang`` is written in; empty: not known."""
    return _SCRIPT_WORDS.get(langcodes.get(lang).maximize().script or "", ())


def wrong_script(text: str, words: tuple[str, ...]) -> str:
    """The script of its letters (at least four) when none is of the scripts ``words``, else empty.

    One is enough: software text is full of names and placeholders in Latin letters.
    """
    letters = [c for c in text if c.isalpha()] if words else []
    if len(letters) < LEAST_SCRIPT_LETTERS:
        return ""
    names = [unicodedata.name(c, "").partition(" ")[0] for c in letters]
    return "" if any(name in words for name in names) else names[0]
