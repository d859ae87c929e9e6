"""gettext catalogs: English messages and their translations, .po or .mo."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from gettext import GNUTranslations
from pathlib import PurePosixPath
from typing import Any

import polib

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.lines import open_binary
from xalign_dist.corpora.places import bare_name
from xalign_dist.corpora.rows import Raw
from xalign_dist.errors import DataError

_CHARSET = re.compile(rb"charset=([\w.:-]+)", re.IGNORECASE)
_DEFAULT = re.compile(r'^Default:\s*"(.*)"\s*\Z', re.DOTALL | re.MULTILINE)


def read_gettext(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Message and translation as src (English unless configured) and tgt.

    Fuzzy and obsolete entries become rejects; untranslated ones are no rows. A plural message
    gives two rows: the singular, and the plural with the last plural form. Where the message is
    a key, its English is the extracted comment ``Default: "..."``. The target language comes
    from the header, else from the folder above LC_MESSAGES. As sentences, the translations alone.

    Raises:
        DataError: not a catalog.
    """
    with open_binary(path, filesystem) as handle:
        data = handle.read()
    try:
        catalog = _mo(data) if bare_name(path).endswith(".mo") else _po(data)
    except (OSError, ValueError, LookupError, struct.error) as err:
        raise DataError(f"{path}: not readable as a gettext catalog ({err})", "mend the catalog") from err
    language = catalog.metadata.get("Language") or _language_folder(path)
    number = 0
    for entry in catalog:
        reason = "obsolete" if entry.obsolete else "fuzzy" if getattr(entry, "fuzzy", False) else None
        for src, tgt in _texts(entry):
            number += 1
            fields = _fields(src, tgt, language, cfg)
            if reason is None:
                yield Raw(fields, f"message {number}")
            else:
                yield Raw(fields, f"message {number}", f"marked as {reason}", reason)


def _po(data: bytes) -> Any:
    charset = _CHARSET.search(data[:4096])
    name = charset.group(1).decode("ascii") if charset else "utf-8"
    text = data.decode("utf-8-sig" if name.lower() in ("charset", "utf-8", "utf8") else name)
    # The added line end keeps polib from taking a one-line file for a path.
    return polib.pofile(text + "\n")


def _mo(data: bytes) -> Any:
    # polib takes a catalog that was cut off for one with shorter texts; the standard library does not.
    GNUTranslations(io.BytesIO(data))
    return polib.mofile(data)


def _texts(entry: Any) -> Iterator[tuple[str, str]]:
    if entry.msgid_plural:
        forms = [entry.msgstr_plural[k] for k in sorted(entry.msgstr_plural)]
        if forms and all(forms):
            yield entry.msgid, forms[0]
            yield entry.msgid_plural, forms[-1]
    elif entry.msgstr:
        english = _DEFAULT.search(getattr(entry, "comment", ""))
        yield english.group(1) if english else entry.msgid, entry.msgstr


def _fields(src: str, tgt: str, language: str | None, cfg: CorpusConfig) -> dict[str, Any]:
    if cfg.kind == "sentences":
        return {"text": tgt} | ({"lang": language} if language else {})
    return {"src": src, "tgt": tgt, "src_lang": "eng"} | ({"tgt_lang": language} if language else {})


def _language_folder(path: str) -> str | None:
    parts = PurePosixPath(path).parts
    return parts[parts.index("LC_MESSAGES") - 1] if "LC_MESSAGES" in parts[1:] else None
