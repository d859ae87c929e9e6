"""Stage: corpora in, clean shards and kept rejects out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from xalign_dist.cleaning import CleaningCounts, Deduplicator
from xalign_dist.config import CleaningConfig, CorpusConfig
from xalign_dist.corpora.tables import write_batches, write_table
from xalign_dist.errors import DataError
from xalign_dist.pipeline.rundir import write_json
from xalign_dist.records import PAIR, PAIR_REJECT, SENTENCE, SENTENCE_REJECT, Chunk
from xalign_dist.runtime.data import stream_clean

FILES = {"pairs": "pairs.parquet", "sentences": "sentences.parquet"}


def clean(
    corpora: list[CorpusConfig],
    cleaning: CleaningConfig,
    out: Path,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Clean ``corpora`` into ``out``: pairs.parquet, sentences.parquet, rejects.parquet, counts.json.

    Pairs and sentences are deduplicated apart from each other. Returns the counts; every row
    read is either kept or in the rejects.

    Raises:
        DataError: nothing is left after cleaning.
    """
    counts: dict[str, Any] = {}
    rejects: list[pa.Table] = []
    for kind in FILES:
        chosen = [c for c in corpora if c.kind == kind]
        if chosen:
            tally = CleaningCounts()
            kept = write_batches(
                _kept(chosen, cleaning, kind, tally, rejects, advance),
                PAIR if kind == "pairs" else SENTENCE,
                str(out / FILES[kind]),
            )
            if kept == 0:
                raise DataError(
                    f"no {kind} left after cleaning ({tally.summary()})",
                    f"look at {out / 'rejects.parquet'} and loosen `cleaning`",
                )
            counts[kind] = tally.to_json()
    write_table(_all_rejects(rejects), str(out / "rejects.parquet"))
    write_json(out / "counts.json", counts)
    return counts


def _kept(
    corpora: list[CorpusConfig],
    cleaning: CleaningConfig,
    kind: str,
    tally: CleaningCounts,
    rejects: list[pa.Table],
    advance: Callable[[int], None],
) -> Iterator[pa.Table]:
    dedup: dict[str | None, Deduplicator] = {}
    for chunk, group in _grouped(corpora, cleaning, kind):
        # A text may stand in the piles of several mining groups; within one a copy is a copy.
        unique = dedup.setdefault(group, Deduplicator(cleaning)).apply(chunk.kept)
        read = chunk.kept.num_rows + chunk.rejects.num_rows
        tally.add(read, unique.kept.num_rows, [chunk.rejects, unique.rejects])
        rejects.extend(t for t in (chunk.rejects, unique.rejects) if t.num_rows)
        advance(read)
        yield unique.kept


def _grouped(
    corpora: list[CorpusConfig], cleaning: CleaningConfig, kind: str
) -> Iterator[tuple[Chunk, str | None]]:
    """Cleaned chunks with their mining group; corpora that follow each other stream together."""
    for chunk, index in stream_clean(corpora, cleaning, kind):
        yield chunk, corpora[index].mining_group


def _all_rejects(tables: list[pa.Table]) -> pa.Table:
    """Rejected pairs and sentences in one file; a sentence fills the source side."""
    renamed = {"id": "src_id", "lang": "src_lang", "text": "src"}
    wide = [
        t.rename_columns([renamed.get(n, n) for n in t.column_names])
        if t.schema.names == SENTENCE_REJECT.names
        else t
        for t in tables
    ]
    return pa.concat_tables([PAIR_REJECT.empty_table(), *wide], promote_options="default")
