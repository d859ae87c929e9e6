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
# What stands in these elements is a formatter's code, not text; what follows them is text.
_CODE_ELEMENTS = {"bpt", "ept", "it", "ph", "ut"}

Variant = tuple[str, str]
"""(language code, text) of one side of a unit."""


def read_tmx(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Translation units as pairs: the configured languages, or the unit's first two variants.

    Raises:
        DataError: not well-formed, or it declares entities.
    """
    try:
        with open_binary(path, filesystem) as handle:
            for number, unit in enumerate(_units(handle), start=1):
                yield _row(_variants(unit), f"unit {number}", cfg)
    except (ParseError, DefusedXmlException, LookupError, ValueError) as err:
        raise DataError(f"{path}: not readable as TMX ({err})", "mend the XML near that place") from err


def _units(handle: Any) -> Iterator[Element]:
    body: Element | None = None
    for event, element in iterparse(handle, events=("start", "end")):
        if event == "start" and element.tag == "body":
            body = element
        elif event == "end" and element.tag == "tu":
            yield element
            # Emptying the unit alone would leave millions of empty elements in the tree.
            (element if body is None else body).clear()


def _variants(unit: Element) -> list[Variant]:
    found = []
    for variant in unit.iter("tuv"):
        segment = variant.find("seg")
        code = variant.get(_XML_LANG) or variant.get("lang") or ""
        if segment is not None:
            found.append((code, _text(segment)))
    return found


def _text(segment: Element) -> str:
    for element in list(segment.iter()):
        if element.tag in _CODE_ELEMENTS:
            tail = element.tail
            element.clear()
            element.tail = tail
    return "".join(segment.itertext())


def _row(variants: list[Variant], place: str, cfg: CorpusConfig) -> Raw:
    if cfg.kind == "sentences":
        found = _pick(variants, cfg.src_lang)
        return Raw(
            {"lang": found[0], "text": found[1]} if found else {}, place, None if found else _lacks(variants)
        )
    if cfg.src_lang is None and cfg.tgt_lang is not None:
        tgt = _pick(variants, cfg.tgt_lang)
        src = _pick([v for v in variants if v is not tgt], None)
    else:
        src = _pick(variants, cfg.src_lang)
        tgt = _pick([v for v in variants if v is not src], cfg.tgt_lang)
    if src is None or tgt is None:
        return Raw({}, place, _lacks(variants))
    return Raw({"src_lang": src[0], "src": src[1], "tgt_lang": tgt[0], "tgt": tgt[1]}, place)


def _lacks(variants: list[Variant]) -> str:
    codes = ", ".join(code or "?" for code, _ in variants) or "no language"
    return f"has segments in {codes}: a language is missing"


def _pick(variants: list[Variant], lang: str | None) -> Variant | None:
    if lang is None:
        return variants[0] if variants else None
    wanted = normalize_language(lang)
    return next((v for v in variants if _is(v[0], wanted)), None)


def _is(code: str, wanted: str) -> bool:
    try:
        return normalize_language(code) == wanted
    except LanguageError:
        return False
