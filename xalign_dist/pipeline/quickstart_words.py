"""Word pairs of the quickstart: names of things in CLDR, read through Babel."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

import numpy as np

from xalign_dist.pipeline.quickstart_catalogs import missing_package, text_group

MAX_CHARS = 30
MAX_WORDS = 2


def read_words(
    locales: Mapping[str, Sequence[str]], per_language: int, seed: int
) -> list[tuple[str, str, str]]:
    """(language, English name, name in the language) from CLDR.

    Names of languages, territories, currencies, units, months and days, of at most two
    words. Names that are written alike in both languages are left out, since matching them
    proves nothing, and so is every name that stands for two things.

    Args:
        locales: ISO 639-3 code -> locale names, best first.
        per_language: most names for a language. All languages prefer the same names, so
            that the English side stays small.
        seed: of the preference among names.

    Raises:
        DependencyError: Babel is not installed.
    """
    if importlib.util.find_spec("babel") is None:
        raise missing_package("Babel")
    english = _unambiguous(_names("en"))
    keys = sorted(english)
    order = [keys[i] for i in np.random.default_rng(seed).permutation(len(keys))]
    rows = []
    for lang, names in locales.items():
        foreign = _unambiguous(_names(names[0]))
        usable = [k for k in order if k in foreign and text_group(foreign[k]) != text_group(english[k])]
        rows += [(lang, english[k], foreign[k]) for k in usable[:per_language]]
    return rows


def _names(locale_name: str) -> dict[str, str]:
    from babel import Locale
    from babel.units import get_unit_name

    locale = Locale.parse(locale_name)
    names: dict[str, str] = {}
    # Two-letter codes: the languages and places people know, not the thousands of others.
    for kind, length in (("languages", 2), ("territories", 2), ("currencies", 3)):
        names.update({f"{kind}/{k}": v for k, v in getattr(locale, kind).items() if len(k) == length})
    names.update({f"months/{k}": v for k, v in locale.months["stand-alone"]["wide"].items()})
    names.update({f"days/{k}": v for k, v in locale.days["stand-alone"]["wide"].items()})
    for unit in _UNITS:
        name = get_unit_name(unit, "long", locale=locale)
        if name:
            names[f"units/{unit}"] = name
    return names


def _unambiguous(names: Mapping[str, str]) -> dict[str, str]:
    short = {
        key: name
        for key, name in names.items()
        if 2 <= len(name) <= MAX_CHARS and len(name.split()) <= MAX_WORDS and "(" not in name
    }
    count: dict[str, int] = {}
    for name in short.values():
        count[text_group(name)] = count.get(text_group(name), 0) + 1
    return {key: name for key, name in short.items() if text_group(name) and count[text_group(name)] == 1}


_UNITS = (
    "area-hectare",
    "duration-century",
    "duration-day",
    "duration-hour",
    "duration-minute",
    "duration-month",
    "duration-second",
    "duration-week",
    "duration-year",
    "length-kilometer",
    "length-meter",
    "length-mile",
    "mass-gram",
    "mass-kilogram",
    "temperature-celsius",
    "volume-liter",
)
