"""gettext catalogs: English messages and their translations, .po or .mo."""

from __future__ import annotations

import io
from collections.abc import Iterator
from gettext import GNUTranslations
from typing import Any

import polib

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.lines import open_binary
from xalign_dist.corpora.rows import Raw
from xalign_dist.errors import DataError

_CONTEXT_END = "\x04"


def read_gettext(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Message and translation as src (English unless configured) and tgt.

    Fuzzy entries are faults; untranslated and obsolete ones are not rows. A plural message
    gives two rows: the singular, and the plural with the last plural form. As sentences, the
    translations alone.

    Raises:
        DataError: not a catalog.
    """
    with open_binary(path, filesystem) as handle:
        data = handle.read()
    try:
        entries = _mo(data) if path.endswith(".mo") else _po(data.decode("utf-8"))
        rows = list(entries)
    except (OSError, UnicodeDecodeError, ValueError) as err:
        raise DataError(f"{path}: not readable as a gettext catalog ({err})", "mend the catalog") from err
    for number, (src, tgt, fault) in enumerate(rows, start=1):
        fields = {"src": src, "tgt": tgt} if cfg.kind == "pairs" else {"text": tgt}
        if cfg.kind == "pairs" and cfg.src_lang is None:
            fields["src_lang"] = "eng"
        yield Raw(fields, f"message {number}", fault)


def _po(text: str) -> Iterator[tuple[str, str, str | None]]:
    for entry in polib.pofile(text):
        fault = "fuzzy" if entry.fuzzy else None
        if entry.obsolete:
            continue
        if entry.msgid_plural:
            forms = [entry.msgstr_plural[k] for k in sorted(entry.msgstr_plural)]
            if forms and all(forms):
                yield entry.msgid, forms[0], fault
                yield entry.msgid_plural, forms[-1], fault
        elif entry.msgstr:
            yield entry.msgid, entry.msgstr, fault


def _mo(data: bytes) -> Iterator[tuple[str, str, str | None]]:
    catalog: dict[Any, str] = GNUTranslations(io.BytesIO(data))._catalog  # type: ignore[attr-defined]
    plural_forms: dict[str, list[str]] = {}
    for key, value in catalog.items():
        if isinstance(key, tuple):
            plural_forms.setdefault(key[0], []).append(value)
        elif key and value:
            yield key.rpartition(_CONTEXT_END)[2], value, None
    for singular, forms in plural_forms.items():
        if forms[0]:
            yield singular.rpartition(_CONTEXT_END)[2], forms[0], None
