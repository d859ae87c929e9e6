"""Text as it was meant: encoding accidents mended, NFC, one kind of white space."""

from __future__ import annotations

import html
import re
import unicodedata

import ftfy

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u200b]")
# Soft hyphen, word joiner, byte order mark: they show nothing and part no words.
_INVISIBLE = re.compile(r"[\u00ad\u2060\ufeff]")
_SPACE = re.compile(r"\s+")
# ftfy takes 100 times longer than a scan; text of printable ASCII cannot need it.
_PLAIN = re.compile(r"[ -%'-~]*\Z")

_FTFY = ftfy.TextFixerConfig(
    normalization="NFC", unescape_html=False, uncurl_quotes=False, fix_character_width=False
)


def normalise(text: str, unescape_html: bool = True) -> str:
    """``text`` in NFC, mojibake mended (ftfy), HTML entities resolved, single spaces, no control characters.

    Zero-width joiners stay: Persian and Indic scripts spell with them. Only entities that end
    in ``;`` are resolved, because ``?a=1&copy=2`` is part of an address.
    """
    if not _PLAIN.match(text):
        if unescape_html and "&" in text:
            text = _ENTITY.sub(lambda m: html.unescape(m.group()), text)
        text = ftfy.fix_text(text, _FTFY)
        text = _CONTROL.sub(" ", _INVISIBLE.sub("", text))
    return _SPACE.sub(" ", text).strip()


def fold(text: str) -> str:
    """``text`` for comparison only: without differences of case and width (NFKC)."""
    return unicodedata.normalize("NFKC", text).casefold()
