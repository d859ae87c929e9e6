"""TMX, streamed; entities and external references are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.languages import normalize_language
from xalign_dist.corpora.lines import open_binary
from xalign_dist.corpora.rows import Raw
from xalign_dist.errors import DataError, LanguageError

_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def read_tmx(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Translation units as pairs: the configured languages, or the unit's first two variants.

    Raises:
        DataError: not well-formed, or it declares entities.
    """
    number = 0
    try:
        with open_binary(path, filesystem) as handle:
            for _, element in iterparse(handle, events=("end",)):
                if element.tag != "tu":
                    continue
                number += 1
                yield _unit(_variants(element), number, cfg)
                element.clear()
    except (ParseError, DefusedXmlException) as err:
        raise DataError(f"{path}: not readable as TMX ({err})", "mend the XML near that place") from err


def _variants(unit: Element) -> list[tuple[str, str]]:
    found = []
    for variant in unit.iter("tuv"):
        segment = variant.find("seg")
        code = variant.get(_XML_LANG) or variant.get("lang") or ""
        if segment is not None:
            found.append((code, "".join(segment.itertext())))
    return found


def _unit(variants: list[tuple[str, str]], number: int, cfg: CorpusConfig) -> Raw:
    place = f"unit {number}"
    if cfg.kind == "sentences":
        chosen = _pick(variants, cfg.src_lang, 0)
        return Raw({"lang": chosen[0], "text": chosen[1]}, place) if chosen else Raw({}, place, "no segment")
    src, tgt = _pick(variants, cfg.src_lang, 0), _pick(variants, cfg.tgt_lang, 1)
    if src is None or tgt is None:
        return Raw({}, place, f"has {len(variants)} usable segments, not both languages")
    return Raw({"src_lang": src[0], "src": src[1], "tgt_lang": tgt[0], "tgt": tgt[1]}, place)


def _pick(variants: list[tuple[str, str]], lang: str | None, place: int) -> tuple[str, str] | None:
    if lang is None:
        return variants[place] if len(variants) > place else None
    wanted = normalize_language(lang)
    return next(((code, text) for code, text in variants if _is(code, wanted)), None)


def _is(code: str, wanted: str) -> bool:
    try:
        return normalize_language(code) == wanted
    except LanguageError:
        return False
