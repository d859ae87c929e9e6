"""Language codes: whatever a file says, ISO 639-3 inside.

Policy: a macrolanguage stands for its dominant member, under the macro code where corpora
mostly use that (``cmn`` -> ``zho``, ``arb`` -> ``ara``, ``khk`` -> ``mon``, ``ekk`` -> ``est``),
because files of one language then meet under one code. Swahili is ``swa`` for the same reason.
Norwegian Bokmål (also where a file says only ``no``) and Nynorsk stay apart, and so do members
that are not understood as the dominant one: ``yue``, ``arz``, ``azb``. Scripts and regions are
dropped. Retired codes follow CLDR: ``iw`` -> ``heb``, ``sh`` -> ``srp``, ``tl`` -> ``fil``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import langcodes
from langcodes.data_dicts import LIKELY_SUBTAGS
from langcodes.tag_parser import LanguageTagError

from xalign_dist.errors import LanguageError

UNDETERMINED = "und"

# Dominant member -> the code used inside.
_MACRO = {
    "cmn": "zho",
    "arb": "ara",
    "swh": "swa",
    "khk": "mon",
    "ekk": "est",
    "lvs": "lav",
    "pes": "fas",
    "prs": "fas",
    "uzn": "uzb",
    "azj": "aze",
    "zsm": "msa",
    "zlm": "msa",
    "npi": "nep",
    "ory": "ori",
    "plt": "mlg",
    "gaz": "orm",
    "als": "sqi",
    "ydd": "yid",
    "pbt": "pus",
    "kmr": "kur",
    "quy": "que",
    "fuv": "ful",
    "knc": "kau",
    "dik": "din",
    "ayr": "aym",
    "gug": "grn",
    "nor": "nob",
}
_SHAPE = re.compile(r"^[A-Za-z]{2,3}(?:[-_@][A-Za-z0-9]{1,12})*$")
# Valid codes that name no language: none, several, uncoded, artificial, private use.
_NO_LANGUAGE = re.compile(r"^(zxx|mul|mis|art|q[a-t][a-z])$")


@functools.lru_cache(maxsize=4096)
def normalize_language(code: str) -> str:
    """The ISO 639-3 code of ``code`` (639-1, 639-3, BCP-47, ``deu_Latn``, ``pt_BR``, ``sr@latin``).

    ``und`` is allowed: it says that the language is not known.

    Raises:
        LanguageError: no such language.
    """
    text = code.strip().partition(".")[0]
    if text.lower() == UNDETERMINED:
        return UNDETERMINED
    for found in _alpha3(text):
        if not _NO_LANGUAGE.match(found):
            return _MACRO.get(found, found)
    raise LanguageError(f"{code!r} is not a language code", _suggestion(text))


def _alpha3(text: str) -> Iterator[str]:
    if not _SHAPE.match(text):
        return
    tag = re.sub(r"[_@]", "-", text)
    # The whole tag first, as in zh-yue; its first part where the rest is none of BCP-47, as in sr@latin.
    for candidate in (tag, tag.partition("-")[0]):
        try:
            language = langcodes.Language.get(candidate)
            if language.language and language.is_valid():
                yield language.to_alpha3(variant="T")
        except (LanguageTagError, LookupError):
            continue


def _suggestion(text: str) -> str:
    if len(text) > 3:
        try:
            near = langcodes.find(text).to_alpha3(variant="T")
        except LookupError:
            pass
        else:
            return f"did you mean {_MACRO.get(near, near)}?"
    return "use ISO 639 or BCP-47, such as deu, de, deu_Latn or pt-BR"


@functools.lru_cache(maxsize=1024)
def language_name(code: str) -> str:
    """The English name of an ISO 639-3 code; the code itself where none is known."""
    if code == UNDETERMINED:
        return "unknown"
    name = langcodes.Language.get(code).language_name("en")
    return code if name.startswith("Unknown language") else name


# Where more than one script is in real use, or CLDR names a mixture (Jpan, Kore).
_SCRIPTS = {
    "ace": ("Latn", "Arab"),
    "aze": ("Latn", "Cyrl"),
    "ber": ("Latn", "Tfng"),
    "bjn": ("Latn", "Arab"),
    "bos": ("Latn", "Cyrl"),
    "crh": ("Latn", "Cyrl"),
    "ful": ("Latn", "Adlm", "Arab"),
    "hau": ("Latn", "Arab"),
    "jav": ("Latn", "Java"),
    "jpn": ("Hani", "Hira", "Kana"),
    "kab": ("Latn", "Tfng"),
    "kas": ("Arab", "Deva"),
    "kau": ("Latn", "Arab"),
    "kaz": ("Cyrl", "Latn", "Arab"),
    "kir": ("Cyrl", "Arab"),
    "kor": ("Hang", "Hani"),
    "kur": ("Latn", "Arab"),
    "lad": ("Latn", "Hebr"),
    "min": ("Latn", "Arab"),
    "mni": ("Beng", "Mtei"),
    "mon": ("Cyrl", "Mong"),
    "msa": ("Latn", "Arab"),
    "nan": ("Hani", "Latn"),
    "pan": ("Guru", "Arab"),
    "sat": ("Olck", "Latn", "Beng", "Deva"),
    "snd": ("Arab", "Deva"),
    "srp": ("Latn", "Cyrl"),
    "taq": ("Latn", "Tfng"),
    "tat": ("Cyrl", "Latn"),
    "tuk": ("Latn", "Cyrl"),
    "tzm": ("Latn", "Tfng"),
    "uig": ("Arab", "Cyrl", "Latn"),
    "uzb": ("Latn", "Cyrl"),
    "zgh": ("Tfng", "Latn"),
    "zho": ("Hani", "Bopo"),
}


@functools.lru_cache(maxsize=1024)
def expected_scripts(code: str) -> frozenset[str]:
    """ISO 15924 scripts in which ``code`` is written; empty when not known, so that nothing is judged."""
    if code in _SCRIPTS:
        return frozenset(_SCRIPTS[code])
    language = langcodes.Language.get(code)
    # maximize() answers en-Latn-US for a language that CLDR says nothing of.
    if code == UNDETERMINED or language.language not in LIKELY_SUBTAGS:
        return frozenset()
    script = language.maximize().script
    if script is None:
        return frozenset()
    return frozenset({"Hani"} if script in ("Hans", "Hant") else {script})
