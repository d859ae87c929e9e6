"""Read a corpus whole, for tests."""

from typing import Any

import pyarrow as pa

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.read import read_corpus
from xalign_dist.records import PAIR, PAIR_REJECT, SENTENCE, SENTENCE_REJECT, Chunk


def read_all(path: object, rows_per_chunk: int = 10_000, **settings: Any) -> Chunk:
    """All chunks of a corpus as one; checks that every chunk has the agreed schema."""
    cfg = CorpusConfig(path=str(path), **settings)
    chunks = list(read_corpus(cfg, rows_per_chunk))
    kept, rejects = (PAIR, PAIR_REJECT) if cfg.kind == "pairs" else (SENTENCE, SENTENCE_REJECT)
    for chunk in chunks:
        assert chunk.kept.schema.equals(kept)
        assert chunk.rejects.schema.equals(rejects)
    return Chunk(pa.concat_tables([c.kept for c in chunks]), pa.concat_tables([c.rejects for c in chunks]))


def texts(chunk: Chunk) -> list[tuple[str, ...]]:
    """The texts kept, a tuple a row."""
    names = [n for n in ("src", "tgt", "text") if n in chunk.kept.column_names]
    return list(zip(*(chunk.kept[n].to_pylist() for n in names), strict=True))
