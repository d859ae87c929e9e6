"""Ray Data streams corpora through the readers and the row filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute
import ray

from xalign_dist.cleaning import clean_rows
from xalign_dist.config import CleaningConfig, CorpusConfig
from xalign_dist.corpora.read import read_corpus
from xalign_dist.records import PAIR, PAIR_REJECT, SENTENCE, SENTENCE_REJECT, Chunk
from xalign_dist.runtime.faults import for_workers, users_errors

_KEPT, _CORPUS = "kept", "corpus_index"


def stream_clean(
    corpora: Sequence[CorpusConfig], cleaning: CleaningConfig, kind: str
) -> Iterator[tuple[Chunk, int]]:
    """Read and clean ``corpora`` (all of one ``kind``) in parallel: chunks with their corpus's index.

    Chunks come in corpus order, whatever finishes first.

    The order matters because duplicates are resolved in favour of the first one.
    """
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    settings = cleaning.model_dump_json()
    items = [
        {"corpus": _located(c).model_dump_json(), "cleaning": settings, "index": i}
        for i, c in enumerate(corpora)
    ]
    ds = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _read_and_clean, batch_size=1, num_cpus=0.5
    )
    kept_schema, reject_schema = (PAIR, PAIR_REJECT) if kind == "pairs" else (SENTENCE, SENTENCE_REJECT)
    blocks = iter(ds.iter_batches(batch_size=None, batch_format="pyarrow"))
    for block in _unwrapped(blocks):
        for index in pa.compute.unique(block[_CORPUS]).to_pylist():
            table = block.filter(pa.compute.equal(block[_CORPUS], index))
            mask = table[_KEPT]
            yield (
                Chunk(
                    table.filter(mask).select(kept_schema.names).cast(kept_schema),
                    table.filter(pa.compute.invert(mask)).select(reject_schema.names).cast(reject_schema),
                ),
                index,
            )


def _located(corpus: CorpusConfig) -> CorpusConfig:
    other = None if corpus.target_path is None else for_workers(corpus.target_path)
    return corpus.model_copy(update={"path": for_workers(corpus.path), "target_path": other})


def _unwrapped(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
    while True:
        with users_errors():
            block = next(blocks, None)
        if block is None:
            return
        yield block


def _read_and_clean(batch: dict[str, Any]) -> Iterator[pa.Table]:
    for corpus, cleaning, index in zip(batch["corpus"], batch["cleaning"], batch["index"], strict=True):
        cfg = CleaningConfig.model_validate_json(cleaning)
        for chunk in read_corpus(CorpusConfig.model_validate_json(corpus)):
            cleaned = clean_rows(chunk.kept, cfg)
            table = _tagged(cleaned.kept, cleaned.rejects, chunk.rejects)
            yield table.append_column(_CORPUS, pa.array([int(index)] * table.num_rows, pa.int64()))


def _tagged(kept: pa.Table, *rejects: pa.Table) -> pa.Table:
    """Kept and rejected rows in one table, because a Ray Data stage has one output."""
    schema = rejects[0].schema
    nulls = [pa.nulls(kept.num_rows, pa.string())] * 2
    whole = pa.table([*kept.columns, *nulls], schema=schema)
    tables = [whole, *(r.cast(schema) for r in rejects)]
    marks = [True] * kept.num_rows + [False] * sum(r.num_rows for r in rejects)
    return pa.concat_tables(tables).append_column(_KEPT, pa.array(marks, pa.bool_()))
