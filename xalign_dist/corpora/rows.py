"""From a reader's raw rows to records: languages normalised, faults turned into rejects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.languages import UNDETERMINED, normalize_language
from xalign_dist.errors import DataError, LanguageError
from xalign_dist.records import PAIR, PAIR_REJECT, SENTENCE, SENTENCE_REJECT, Chunk

MAX_CHARS = 100_000
"""A longer row is a damaged file (lost line ends), not a sentence."""

UNREADABLE = "unreadable"
ONE_LANGUAGE = "one_language"
_JUDGED_FROM = 100
_SHOWN_CHARS = 200


class Raw(NamedTuple):
    """One row as a reader found it.

    ``place`` names it in messages ("line 7"); ``fault`` is why it cannot be used, else None.
    ``reason`` is the reject's; only ``unreadable`` rows count as faults of the file.
    """

    fields: dict[str, Any]
    place: str
    fault: str | None = None
    reason: str = UNREADABLE


class RowBuilder:
    """Turns raw rows of one file into chunks, and stops when too many are faulty.

    Args:
        cfg: the corpus; its languages and source stand in for missing columns.
        path: the file, for messages.
        name: stands in for a missing source.
        prefix: what made ids begin with.

    Raises:
        LanguageError: a language in ``cfg`` is not known.
    """

    def __init__(self, cfg: CorpusConfig, path: str, name: str, prefix: str) -> None:
        self.cfg, self.path, self.name, self.prefix = cfg, path, name, prefix
        self.read = self.faults = self.kept = 0
        self.last_fault = self.last_reject = ""
        src_lang, tgt_lang = _setting("src_lang", cfg.src_lang), _setting("tgt_lang", cfg.tgt_lang)
        self.sides: list[tuple[str, str, str, str | None]]
        if cfg.kind == "pairs":
            self.schema, self.reject_schema = PAIR, PAIR_REJECT
            self.sides = [("src_id", "src_lang", "src", src_lang), ("tgt_id", "tgt_lang", "tgt", tgt_lang)]
        else:
            self.schema, self.reject_schema = SENTENCE, SENTENCE_REJECT
            self.sides = [("id", "lang", "text", src_lang)]
        self._languages_seen: set[str] = set()

    def chunks(self, rows: Iterable[Raw], size: int, limit: int | None = None) -> Iterator[Chunk]:
        """Chunks of ``size`` rows, in order, of ``limit`` rows at most.

        Raises:
            DataError: more than ``max_row_fault_share`` of at least 100 rows (or of all) are
                faulty, or nothing says which language a side is in.
        """
        kept: list[dict[str, Any]] = []
        rejects: list[dict[str, Any]] = []
        for raw in rows:
            self.read += 1
            record, reason, fault = self._record(raw)
            if fault is None:
                kept.append(record)
                self.kept += 1
            else:
                self.last_reject = f"{raw.place}: {fault}"
                rejects.append(record | {"reason": reason, "detail": f"{self.path}, {self.last_reject}"})
                if reason == UNREADABLE:
                    self.faults, self.last_fault = self.faults + 1, self.last_reject
                    self._judge(_JUDGED_FROM)
            if len(kept) + len(rejects) >= size:
                yield self._chunk(kept, rejects)
                kept, rejects = [], []
            if self.read == limit:
                break
        self._judge(1)
        if kept or rejects:
            yield self._chunk(kept, rejects)

    def _judge(self, least: int) -> None:
        if self.read < least or self.faults <= self.read * self.cfg.max_row_fault_share:
            return
        raise DataError(
            f"{self.path}: {self.faults} of {self.read} rows cannot be used, the last is {self.last_fault}",
            "mend the file, map its columns, or raise corpora.max_row_fault_share",
        )

    def _chunk(self, kept: list[dict[str, Any]], rejects: list[dict[str, Any]]) -> Chunk:
        return Chunk(
            pa.Table.from_pylist(kept, schema=self.schema),
            pa.Table.from_pylist(rejects, schema=self.reject_schema),
        )

    def _record(self, raw: Raw) -> tuple[dict[str, Any], str, str | None]:
        """(record, reason to refuse it, fault or None)."""
        fields, fault = raw.fields, raw.fault
        row: dict[str, Any] = {"source": _plain(self.cfg.source or fields.get("source") or self.name)}
        for id_, lang, text, fixed in self.sides:
            given = fields.get(id_)
            row[id_] = f"{self.prefix}:{self.read - 1}:{text}" if given is None else _plain(given)
            code, lang_fault = self._language(fields, lang, fixed, must_be_known=fault is None)
            value, text_fault = _text(fields.get(text), text)
            row[lang], row[text] = code, value
            fault = fault or lang_fault or text_fault
        if (
            fault is None
            and row.get("src_lang") == row.get("tgt_lang") != UNDETERMINED
            and len(self.sides) == 2
        ):
            return row, ONE_LANGUAGE, f"both sides are {row['src_lang']}"
        return row, raw.reason, fault

    def _language(
        self, fields: dict[str, Any], column: str, fixed: str | None, must_be_known: bool
    ) -> tuple[str | None, str | None]:
        """(code, fault). A column that no row has had is the file's fault, and stops the run."""
        if fixed is not None:
            return fixed, None
        if column in fields:
            self._languages_seen.add(column)
        elif must_be_known and column not in self._languages_seen:
            setting = "tgt_lang" if column == "tgt_lang" else "src_lang"
            raise DataError(
                f"{self.path}: neither a column {column!r} nor a setting says which language it is",
                f"set corpora.{setting} (or map a column to {column})",
            )
        code = fields.get(column)
        if code is None:
            return None, f"{column} is null"
        try:
            return normalize_language(str(code)), None
        except LanguageError as err:
            return _plain(code)[:_SHOWN_CHARS], f"{column}: {err.problem}"


def _setting(name: str, code: str | None) -> str | None:
    if code is None:
        return None
    try:
        return normalize_language(code)
    except LanguageError as err:
        raise LanguageError(f"corpora.{name}: {err.problem}", err.remedy) from None


def _plain(value: object) -> str:
    """A string that Arrow can hold: JSON may smuggle in halves of surrogate pairs, which UTF-8 has not."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _text(value: object, column: str) -> tuple[str | None, str | None]:
    """(text, fault)."""
    if value is None:
        return None, f"{column} is null"
    if not isinstance(value, str):
        return _plain(value)[:_SHOWN_CHARS], f"{column} is {type(value).__name__}, not text"
    if len(value) > MAX_CHARS:
        return (
            _plain(value[:_SHOWN_CHARS]),
            f"{column} has {len(value):,} characters, more than {MAX_CHARS:,}",
        )
    if value.isascii():
        return value, None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as err:
        return _plain(value), f"{column} is not Unicode at character {err.start}"
    return value, None
