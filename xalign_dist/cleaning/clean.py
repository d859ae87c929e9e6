"""The row-wise part of cleaning, and the counts that must add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute

from xalign_dist.cleaning.normalise import normalise
from xalign_dist.cleaning.registry import row_filters
from xalign_dist.config import CleaningConfig
from xalign_dist.errors import StageError
from xalign_dist.records import PAIR, PAIR_REJECT, SENTENCE, SENTENCE_REJECT, Chunk, with_rejection

# By whether the rows are pairs: the columns that filters see.
_JUDGED = {True: ["src", "tgt", "src_lang", "tgt_lang"], False: ["text", "lang"]}


def clean_rows(table: pa.Table, cfg: CleaningConfig) -> Chunk:
    """Normalise the texts and apply the filters that look at one row alone.

    A row is refused by the first filter that faults it. Rejects hold the normalised text.
    Duplicates are for :class:`~xalign_dist.cleaning.duplicates.Deduplicator`, which comes after
    all of these, whatever its place among ``cfg.filters``.

    Raises:
        ConfigError: unknown filter.
    """
    pairs = "src" in table.column_names
    schema, reject_schema = (PAIR, PAIR_REJECT) if pairs else (SENTENCE, SENTENCE_REJECT)
    table = _normalised(table, ("src", "tgt") if pairs else ("text",), cfg).select(schema.names).cast(schema)
    rejects = [reject_schema.empty_table()]
    for name, check in row_filters(cfg):
        verdicts = check(table.select(_JUDGED[pairs]).to_pydict(), cfg)
        faulty = pa.array([v is not None for v in verdicts], pa.bool_())
        bad = table.filter(faulty)
        if bad.num_rows:
            rejects.append(with_rejection(bad, name, [v for v in verdicts if v is not None]))
            table = table.filter(pa.compute.invert(faulty))
    return Chunk(table, pa.concat_tables(rejects).cast(reject_schema))


def _normalised(table: pa.Table, columns: tuple[str, ...], cfg: CleaningConfig) -> pa.Table:
    for name in columns:
        texts = pa.array([normalise(t, cfg.unescape_html) for t in table[name].to_pylist()], pa.string())
        table = table.set_column(table.column_names.index(name), name, texts)
    return table


@dataclass(slots=True)
class CleaningCounts:
    """Rows read, kept, and rejected by reason. Counts of shards add up with ``+``."""

    read: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, read: int, kept: int, rejects: list[pa.Table]) -> None:
        """Count one chunk.

        Raises:
            StageError: rows were lost or doubled; a fault of ours, never of the data.
        """
        found: Counter[str] = Counter()
        for table in rejects:
            found.update(table["reason"].to_pylist())
        if read != kept + found.total():
            raise StageError(
                f"cleaning read {read} rows but accounts for {kept + found.total()}", "report this as a bug"
            )
        self.read, self.kept = self.read + read, self.kept + kept
        self.rejected.update(found)

    def __add__(self, other: CleaningCounts) -> CleaningCounts:
        return CleaningCounts(self.read + other.read, self.kept + other.kept, self.rejected + other.rejected)

    def summary(self) -> str:
        """One line for people."""
        reasons = ", ".join(f"{name} {n:,}" for name, n in self.rejected.most_common())
        return f"{self.read:,} read, {self.kept:,} kept" + (f"; rejected: {reasons}" if reasons else "")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"read": self.read, "kept": self.kept, "rejected": dict(sorted(self.rejected.items()))}
