"""gettext catalogs: English messages and their translations, .po or .mo."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from gettext import GNUTranslations
from typing import Any

import polib

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.lines import bare_name, open_binary
from xalign_dist.corpora.rows import Raw
from xalign_dist.errors import DataError

FUZZY = "fuzzy"


def read_gettext(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Message and translation as src (English unless configured) and tgt.

    The translations' language is the catalog's header ``Language`` unless configured. Fuzzy
    entries are refused; untranslated and obsolete ones are not rows. A plural message gives two
    rows: the singular with the first plural form, the plural with the last one. As sentences,
    the translations alone.

    Raises:
        DataError: not a catalog.
    """
    with open_binary(path, filesystem) as handle:
        data = handle.read()
    try:
        catalog = _mo(data) if bare_name(path).endswith(".mo") else _po(data)
    except (OSError, ValueError, LookupError, struct.error) as err:
        raise DataError(f"{path}: not readable as a gettext catalog ({err})", "mend the catalog") from err
    language = catalog.metadata.get("Language") or None
    number = 0
    for entry in catalog:
        for src, tgt in _translations(entry):
            number += 1
            if cfg.kind == "pairs":
                fields = {"src": src, "tgt": tgt, "src_lang": "eng", "tgt_lang": language}
            else:
                fields = {"text": tgt, "lang": language}
            if language is None:
                fields.pop("tgt_lang" if cfg.kind == "pairs" else "lang")
            fault = "marked fuzzy: not checked by its translator" if entry.fuzzy else None
            yield Raw(fields, f"message {number}", fault, FUZZY if fault else None)


def _po(data: bytes) -> Any:
    # polib takes what names an existing file for a path; with a line end it is none.
    data = data.removeprefix(b"\xef\xbb\xbf") + b"\n"
    text = data.decode(polib.detect_encoding(data, binary_mode=True))
    if not any(line.startswith("msgid") for line in text.split("\n")):
        raise ValueError("it has no msgid")
    return polib.pofile(text)


def _mo(data: bytes) -> Any:
    # polib reads short strings from a cut-off file without a word; the standard library checks.
    GNUTranslations(io.BytesIO(data))
    return polib.mofile(data)


def _translations(entry: Any) -> Iterator[tuple[str, str]]:
    if entry.obsolete or not entry.msgid:
        return
    if entry.msgid_plural:
        forms = [entry.msgstr_plural[k] for k in sorted(entry.msgstr_plural)]
        if forms and all(forms):
            yield entry.msgid, forms[0]
            yield entry.msgid_plural, forms[-1]
    elif entry.msgstr:
        yield entry.msgid, entry.msgstr
