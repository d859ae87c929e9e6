"""Text as it was meant: encoding accidents mended, NFC, one kind of white space."""

from __future__ import annotations

import html
import re
import unicodedata

import ftfy

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff]")
_SPACE = re.compile(r"\s+")
# ftfy takes 100 times longer than a scan; text of printable ASCII cannot need it.
_PLAIN = re.compile(r"[ -%'-~]*\Z")

_FTFY = ftfy.TextFixerConfig(unescape_html=False, uncurl_quotes=False, fix_character_width=False)


def normalise(text: str, unescape_html: bool = True) -> str:
    """``text`` with mojibake mended (ftfy), HTML entities resolved, NFC, single spaces, no control characters.

    Zero-width joiners stay: Persian and Indic scripts spell with them.
    """
    if not _PLAIN.match(text):
        if unescape_html and "&" in text:
            text = html.unescape(text)
        text = unicodedata.normalize("NFC", ftfy.fix_text(text, _FTFY))
        text = _CONTROL.sub(" ", text)
    return _SPACE.sub(" ", text).strip()
