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
# What they hold is markup of the translated document, not its text.
_CODES = {"bpt", "ept", "it", "ph", "ut"}


def read_tmx(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Translation units as pairs: the configured languages, or the unit's first two variants.

    Raises:
        DataError: not well-formed, or it declares entities.
    """
    number = 0
    body: Element | None = None
    try:
        with open_binary(path, filesystem) as handle:
            for event, element in iterparse(handle, events=("start", "end")):
                name = _name(element)
                if event == "start":
                    body = element if name == "body" else body
                elif name == "tu":
                    number += 1
                    yield _unit(_variants(element), number, cfg)
                    if body is not None:
                        body.clear()  # not only the unit: an emptied unit would still be kept
    except (ParseError, DefusedXmlException, LookupError) as err:
        raise DataError(f"{path}: not readable as TMX ({err})", "mend the XML near that place") from err


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _variants(unit: Element) -> list[tuple[str, str]]:
    found = []
    for variant in unit:
        segment = next((e for e in variant if _name(e) == "seg"), None)
        if _name(variant) == "tuv" and segment is not None:
            code = variant.get(_XML_LANG) or variant.get("lang") or ""
            found.append((code, "".join(_text(segment))))
    return found


def _text(element: Element) -> Iterator[str]:
    if _name(element) not in _CODES:
        yield element.text or ""
        for child in element:
            yield from _text(child)
            yield child.tail or ""


def _unit(variants: list[tuple[str, str]], number: int, cfg: CorpusConfig) -> Raw:
    place = f"unit {number}"
    if cfg.kind == "sentences":
        chosen = _pick(variants, cfg.src_lang, 0)
        return Raw({"lang": chosen[0], "text": chosen[1]}, place) if chosen else Raw({}, place, "no segment")
    if cfg.src_lang is None and cfg.tgt_lang is not None:
        tgt = _pick(variants, cfg.tgt_lang, 0)
        src = _pick([v for v in variants if v is not tgt], None, 0)
    else:
        src = _pick(variants, cfg.src_lang, 0)
        tgt = _pick([v for v in variants if v is not src], cfg.tgt_lang, 0)
    if src is None or tgt is None:
        codes = ", ".join(code for code, _ in variants) or "none"
        return Raw({}, place, f"it has not both languages, but: {codes}")
    return Raw({"src_lang": src[0], "src": src[1], "tgt_lang": tgt[0], "tgt": tgt[1]}, place)


def _pick(variants: list[tuple[str, str]], lang: str | None, place: int) -> tuple[str, str] | None:
    if lang is None:
        return variants[place] if len(variants) > place else None
    wanted = normalize_language(lang)
    return next((v for v in variants if _is(v[0], wanted)), None)


def _is(code: str, wanted: str) -> bool:
    try:
        return normalize_language(code) == wanted
    except LanguageError:
        return False
