"""Is the text in the language it claims? By Unicode script, and by a packaged identifier."""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

from xalign_dist.cleaning.filters import Columns, Verdicts, first_fault, sides
from xalign_dist.config import CleaningConfig
from xalign_dist.corpora.languages import UNDETERMINED, expected_scripts, normalize_language
from xalign_dist.errors import LanguageError

# An identifier's answer inside one of these groups is no evidence against the claim.
_RELATIVES = [
    {"dan", "nob", "nno", "swe", "isl", "fao"},
    {"hrv", "srp", "bos", "slv", "mkd", "bul"},
    {"ces", "slk", "pol"},
    {"ind", "msa", "jav", "tgl"},
    {"por", "glg", "spa", "cat", "oci", "arg", "ast", "ita"},
    {"deu", "nld", "afr", "ltz"},
    {"rus", "ukr", "bel", "bul", "kaz", "kir", "tat", "mon", "tgk"},
    {"hin", "mar", "nep"},
    {"ara", "fas", "urd", "uig", "kur", "ckb", "pus"},
    {"zho", "jpn", "yue"},
    {"tur", "aze", "uzb", "tuk"},
    {"gle", "gla", "cym", "bre"},
    {"est", "fin"},
    {"zul", "xho", "swa", "kin"},
    {"amh", "tir"},
    {"fra", "wln", "oci", "cat", "ita"},
]

# Prefix of a letter's Unicode name -> ISO 15924; the name's first word is the script.
_SCRIPT_NAMES = {
    "LATIN": "Latn",
    "CYRILLIC": "Cyrl",
    "ARABIC": "Arab",
    "GREEK": "Grek",
    "HEBREW": "Hebr",
    "CJK": "Hani",
    "HIRAGANA": "Hira",
    "KATAKANA": "Kana",
    "HANGUL": "Hang",
    "DEVANAGARI": "Deva",
    "BENGALI": "Beng",
    "TAMIL": "Taml",
    "TELUGU": "Telu",
    "KANNADA": "Knda",
    "MALAYALAM": "Mlym",
    "GUJARATI": "Gujr",
    "GURMUKHI": "Guru",
    "ORIYA": "Orya",
    "SINHALA": "Sinh",
    "THAI": "Thai",
    "LAO": "Laoo",
    "MYANMAR": "Mymr",
    "KHMER": "Khmr",
    "TIBETAN": "Tibt",
    "GEORGIAN": "Geor",
    "ARMENIAN": "Armn",
    "ETHIOPIC": "Ethi",
    "MONGOLIAN": "Mong",
    "BOPOMOFO": "Bopo",
    "THAANA": "Thaa",
    "CHEROKEE": "Cher",
}


@functools.lru_cache(maxsize=65536)
def script_of(char: str) -> str | None:
    """ISO 15924 script of a letter; None for what is no letter or of a script not listed."""
    if not char.isalpha():
        return None
    return _SCRIPT_NAMES.get(unicodedata.name(char, "").partition(" ")[0])


def foreign_script(text: str, lang: str) -> str | None:
    """A detail when no letter of ``text`` is of a script that ``lang`` is written in, else None.

    One letter is enough to pass: software text mixes names and commands of other scripts in.
    """
    scripts = expected_scripts(lang)
    found = [s for s in map(script_of, text) if s is not None]
    if not scripts or not found or any(s in scripts for s in found):
        return None
    return f"{max(set(found), key=found.count)} letters only, {lang} is written in {'/'.join(sorted(scripts))}"


@functools.cache
def _identifier() -> tuple[Any, frozenset[str]]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return model, frozenset(_to_alpha3(str(label)) for label in model.labels)


@functools.cache
def _to_alpha3(label: str) -> str:
    try:
        return normalize_language(label)
    except LanguageError:
        return UNDETERMINED


@functools.cache
def _related(a: str, b: str) -> bool:
    return a == b or any(a in group and b in group for group in _RELATIVES)


def other_language(text: str, lang: str, least: float) -> str | None:
    """A detail when the identifier says, at least ``least`` sure, that ``text`` is of another language.

    Languages that the identifier does not know are not judged, nor answers inside a family of
    close relatives.
    """
    model, known = _identifier()
    if lang not in known:
        return None
    label, sure = model.classify(text)
    found = _to_alpha3(str(label))
    if sure < least or found == UNDETERMINED or _related(found, lang):
        return None
    return f"looks like {found} ({sure:.2f}), not {lang}"


def language(columns: Columns, cfg: CleaningConfig) -> Verdicts:
    """The filter: script for every text, the identifier for texts of ``language_min_chars`` and more."""
    per_side = []
    for side, lang_column in sides(columns):
        verdicts: Verdicts = []
        for text, lang in zip(columns[side], columns[lang_column], strict=True):
            verdicts.append(_judge(text, lang, cfg))
        per_side.append([None if v is None else f"{side}: {v}" for v in verdicts])
    return first_fault(per_side)


def _judge(text: str, lang: str, cfg: CleaningConfig) -> str | None:
    if cfg.language_check == "off" or lang == UNDETERMINED:
        return None
    fault = foreign_script(text, lang)
    if fault is None and cfg.language_check == "identify" and len(text) >= cfg.language_min_chars:
        fault = other_language(text, lang, cfg.language_min_confidence)
    return fault
