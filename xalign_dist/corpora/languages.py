"""Language codes: whatever a file says, ISO 639-3 inside.

Policy: a macrolanguage stands for its dominant member, under the macro code where corpora
mostly use that (``cmn`` -> ``zho``, ``arb`` -> ``ara``, ``khk`` -> ``mon``, ``ekk`` -> ``est``),
because files of one language then meet under one code. Swahili is ``swa`` for the same reason.
Norwegian Bokmål and Nynorsk stay apart.
"""

from __future__ import annotations

import functools
import re

import langcodes
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
    "uzn": "uzb",
    "azj": "aze",
    "zsm": "msa",
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
    "grn": "grn",
    "nor": "nob",
}
_SHAPE = re.compile(r"^[A-Za-z]{2,3}(?:[-_@][A-Za-z0-9]{1,12})*$")


@functools.lru_cache(maxsize=4096)
def normalize_language(code: str) -> str:
    """The ISO 639-3 code of ``code`` (639-1, 639-3, BCP-47, ``deu_Latn``, ``pt_BR``, ``sr@latin``).

    ``und`` is allowed: it says that the language is not known.

    Raises:
        LanguageError: no such language.
    """
    text = code.strip()
    if _SHAPE.match(text):
        base = re.split(r"[-_@]", text)[0].lower()
        if base == UNDETERMINED:
            return UNDETERMINED
        try:
            language = langcodes.Language.get(base)
            if language.is_valid():
                found = language.to_alpha3(variant="T")
                return _MACRO.get(found, found)
        except (LanguageTagError, LookupError):
            pass
    raise LanguageError(
        f"{code!r} is not a language code", "use ISO 639 or BCP-47, such as deu, de, deu_Latn or pt-BR"
    )


@functools.lru_cache(maxsize=1024)
def language_name(code: str) -> str:
    """The English name of an ISO 639-3 code; the code itself where none is known."""
    if code == UNDETERMINED:
        return "unknown"
    return langcodes.Language.get(code).language_name("en")


# Scripts beside the likely one that are in real use.
_MORE_SCRIPTS = {
    "srp": ("Latn", "Cyrl"),
    "kaz": ("Cyrl", "Latn", "Arab"),
    "uzb": ("Latn", "Cyrl"),
    "aze": ("Latn", "Cyrl"),
    "mon": ("Cyrl", "Mong"),
    "zho": ("Hani", "Bopo"),
    "yue": ("Hani",),
    "jpn": ("Hani", "Hira", "Kana"),
    "kor": ("Hang", "Hani"),
    "tat": ("Cyrl", "Latn"),
    "uig": ("Arab", "Cyrl", "Latn"),
    "kur": ("Latn", "Arab"),
    "pan": ("Guru", "Arab"),
    "msa": ("Latn", "Arab"),
    "tgk": ("Cyrl",),
    "bos": ("Latn", "Cyrl"),
    "hau": ("Latn", "Arab"),
}


@functools.lru_cache(maxsize=1024)
def expected_scripts(code: str) -> frozenset[str]:
    """ISO 15924 scripts in which ``code`` is written; empty when not known, so that nothing is judged."""
    if code == UNDETERMINED:
        return frozenset()
    if code in _MORE_SCRIPTS:
        return frozenset(_MORE_SCRIPTS[code])
    script = langcodes.Language.get(code).maximize().script
    if script is None:
        return frozenset()
    return frozenset({"Hani"} if script in ("Hans", "Hant") else {script})
