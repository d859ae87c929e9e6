"""From a reader's raw rows to records: languages normalised, faults turned into rejects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.languages import normalize_language
from xalign_dist.errors import DataError, LanguageError
from xalign_dist.records import PAIR, PAIR_REJECT, SENTENCE, SENTENCE_REJECT, Chunk

MAX_CHARS = 100_000
"""A longer row is a damaged file (lost line ends), not a sentence."""


class Raw(NamedTuple):
    """One row as a reader found it.

    ``place`` names it in messages ("line 7"); ``fault`` is why it cannot be used, else None.
    """

    fields: dict[str, Any]
    place: str
    fault: str | None = None


class RowBuilder:
    """Turns raw rows of one file into chunks, and stops when too many are faulty.

    Args:
        cfg: the corpus; its languages and source stand in for missing columns.
        path: the file, for messages and ids.
        name: the file's short name, the prefix of made ids.
    """

    def __init__(self, cfg: CorpusConfig, path: str, name: str) -> None:
        self.cfg, self.path, self.name = cfg, path, name
        self.pairs = cfg.kind == "pairs"
        self.schema = PAIR if self.pairs else SENTENCE
        self.reject_schema = PAIR_REJECT if self.pairs else SENTENCE_REJECT
        self.read = self.faults = 0
        self.last_fault = ""

    def chunks(self, rows: Iterable[Raw], size: int) -> Iterator[Chunk]:
        """Chunks of ``size`` rows, in order.

        Raises:
            DataError: more than ``max_row_fault_share`` of at least 100 rows (or of all) are faulty.
        """
        kept: list[dict[str, Any]] = []
        rejects: list[dict[str, Any]] = []
        for raw in rows:
            if self.cfg.max_rows is not None and self.read >= self.cfg.max_rows:
                break
            self.read += 1
            record, reason = self._record(raw)
            if reason is None:
                kept.append(record)
            else:
                self.faults += 1
                self.last_fault = f"{raw.place}: {reason}"
                rejects.append(record | {"reason": "unreadable", "detail": f"{self.path}, {self.last_fault}"})
                self._judge(at_end=False)
            if len(kept) + len(rejects) >= size:
                yield self._chunk(kept, rejects)
                kept, rejects = [], []
        self._judge(at_end=True)
        if kept or rejects:
            yield self._chunk(kept, rejects)

    def _judge(self, at_end: bool) -> None:
        if self.read < (1 if at_end else 100) or self.faults <= self.read * self.cfg.max_row_fault_share:
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
        row.setdefault("source", None)
        row["source"] = self.cfg.source or row["source"] or self.name
        number = f"{self.name}:{self.read - 1}"
        sides = (
            (("src_id", "src_lang", "src"), ("tgt_id", "tgt_lang", "tgt"))
            if self.pairs
            else (("id", "lang", "text"),)
        )
        fault = raw.fault
        given = (self.cfg.src_lang, self.cfg.tgt_lang)
        for (id_, lang, text), fixed in zip(sides, given, strict=False):
            row[id_] = str(row[id_]) if row.get(id_) is not None else f"{number}:{text}"
            fault = fault or self._language(row, lang, fixed) or _text_fault(row, text)
            row[text] = None if row.get(text) is None else str(row[text])
        return row, fault

    def _language(self, row: dict[str, Any], column: str, fixed: str | None) -> str | None:
        code = fixed or row.get(column)
        if code is None:
            setting = "tgt_lang" if column == "tgt_lang" else "src_lang"
            raise DataError(
                f"{self.path}: neither a column {column!r} nor a setting says which language it is",
                f"set corpora.{setting} (or map a column to {column})",
            )
        row[column] = str(code)
        try:
            row[column] = normalize_language(str(code))
        except LanguageError as err:
            if fixed is not None:
                raise
            return err.problem
        return None


def _text_fault(row: dict[str, Any], column: str) -> str | None:
    value = row.get(column)
    if value is None:
        return f"{column} is null"
    if not isinstance(value, str):
        return f"{column} is {type(value).__name__}, not text"
    if len(value) > MAX_CHARS:
        row[column] = value[:200]
        return f"{column} has {len(value):,} characters, more than {MAX_CHARS:,}"
    return None
