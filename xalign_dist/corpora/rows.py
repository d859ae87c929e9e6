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
"""The reason of rejects that count as faults of the file."""

# What of an unusable value is shown in the rejects.
_SHOWN_CHARS = 200
# Fewer rows say too little about the share of faults while the file is still being read.
_JUDGED_ROWS = 100


class Raw(NamedTuple):
    """One row as a reader found it.

    ``place`` names it in messages ("line 7"); ``fault`` is why it cannot be used, else None;
    ``reason`` is given when the row is refused for what it is, without counting as a fault.
    """

    fields: dict[str, Any]
    place: str
    fault: str | None = None
    reason: str | None = None


class RowBuilder:
    """Turns raw rows of one file into chunks, and stops when too many are faulty.

    Args:
        cfg: the corpus; its languages and source stand in for missing columns.
        path: the file, for messages.
        name: the file's short name, the source of rows that name none.
        prefix: starts the ids of rows that have none; unique to the file.
        limit: rows to take at most; None for all.

    Raises:
        LanguageError: a configured language is unknown.
        DataError: both configured languages are the same.
    """

    def __init__(
        self, cfg: CorpusConfig, path: str, name: str, prefix: str, limit: int | None = None
    ) -> None:
        self.cfg, self.path, self.name, self.prefix, self.limit = cfg, path, name, prefix, limit
        self.pairs = cfg.kind == "pairs"
        self.schema = PAIR if self.pairs else SENTENCE
        self.reject_schema = PAIR_REJECT if self.pairs else SENTENCE_REJECT
        self.fixed = _fixed_languages(cfg)
        self.read = self.faults = 0
        self.last_fault = ""
        self._columns_seen: set[str] = set()

    def chunks(self, rows: Iterable[Raw], size: int) -> Iterator[Chunk]:
        """Chunks of ``size`` rows, in order.

        Raises:
            DataError: more than ``max_row_fault_share`` of at least 100 rows (or of all) are faulty,
                or nothing says which language a side is in.
        """
        kept: list[dict[str, Any]] = []
        rejects: list[dict[str, Any]] = []
        for raw in rows:
            if self.limit is not None and self.read >= self.limit:
                break
            self.read += 1
            record, fault = self._record(raw)
            if fault is None:
                kept.append(record)
            else:
                reason = raw.reason or UNREADABLE
                rejects.append(record | {"reason": reason, "detail": f"{self.path}, {raw.place}: {fault}"})
                if reason == UNREADABLE:
                    self.faults += 1
                    self.last_fault = f"{raw.place}: {fault}"
                    self._judge(_JUDGED_ROWS)
            if len(kept) + len(rejects) >= size:
                yield self._chunk(kept, rejects)
                kept, rejects = [], []
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

    def _record(self, raw: Raw) -> tuple[dict[str, Any], str | None]:
        row = {k: v for k, v in raw.fields.items() if k in self.schema.names}
        self._columns_seen.update(row)
        row["source"] = _storable(self.cfg.source or row.get("source") or self.name)
        sides = (
            (("src_id", "src_lang", "src"), ("tgt_id", "tgt_lang", "tgt"))
            if self.pairs
            else (("id", "lang", "text"),)
        )
        fault = raw.fault
        for (id_, lang, text), fixed in zip(sides, self.fixed, strict=False):
            given = row.get(id_)
            row[id_] = f"{self.prefix}:{self.read - 1}:{text}" if given is None else _storable(given)
            lang_fault, text_fault = self._language(row, lang, fixed, fault), _text_fault(row, text)
            fault = fault or lang_fault or text_fault
        if fault is None and self.pairs and row["src_lang"] == row["tgt_lang"] != UNDETERMINED:
            fault = f"same language: both sides are {row['src_lang']}"
        return row, fault

    def _language(self, row: dict[str, Any], column: str, fixed: str | None, fault: str | None) -> str | None:
        """Puts the language's code into ``row``; why it cannot, else None."""
        if fixed is not None:
            row[column] = fixed
            return None
        code = row.get(column)
        if code is None:
            if column in self._columns_seen or fault is not None:
                return f"{column} is null"
            setting = "tgt_lang" if column == "tgt_lang" else "src_lang"
            raise DataError(
                f"{self.path}: neither a column {column!r} nor a setting says which language it is",
                f"set corpora.{setting} (or map a column to {column})",
            )
        row[column] = _storable(code)
        try:
            row[column] = normalize_language(row[column])
        except LanguageError as err:
            return f"{column}: {err.problem}"
        return None


def _fixed_languages(cfg: CorpusConfig) -> tuple[str | None, str | None]:
    found: list[str | None] = []
    tgt_lang = cfg.tgt_lang if cfg.kind == "pairs" else None
    for setting, code in (("src_lang", cfg.src_lang), ("tgt_lang", tgt_lang)):
        try:
            found.append(None if code is None else normalize_language(code))
        except LanguageError as err:
            raise LanguageError(f"corpora.{setting} of {cfg.path}: {err.problem}", err.remedy) from None
    src, tgt = found
    if src is not None and src == tgt != UNDETERMINED:
        raise DataError(
            f"{cfg.path}: src_lang {cfg.src_lang!r} and tgt_lang {cfg.tgt_lang!r} are the same language ({src})",
            "pairs need two languages: correct corpora.src_lang or tgt_lang, or read it as sentences",
        )
    return src, tgt


def _text_fault(row: dict[str, Any], column: str) -> str | None:
    """Why the text cannot be used, else None; what is not text is put into words for the rejects."""
    value = row.get(column)
    if value is None:
        return f"{column} is null"
    if not isinstance(value, str):
        row[column] = _storable(value)
        return f"{column} is {type(value).__name__}, not text"
    if len(value) > MAX_CHARS:
        row[column] = _storable(value[:_SHOWN_CHARS])
        return f"{column} has {len(value):,} characters, more than {MAX_CHARS:,}"
    if not value.isascii():
        row[column] = _storable(value)
        if row[column] != value:
            return f"{column} has half a surrogate pair, which is no character"
    return None


def _storable(value: Any) -> str:
    """A value as text that UTF-8 can hold; what is no text is cut short."""
    text = value if isinstance(value, str) else str(value)[:_SHOWN_CHARS]
    return text.encode("utf-8", "replace").decode("utf-8")
