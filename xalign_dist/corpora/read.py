"""Any corpus as a stream of records: find its files, choose the reader, turn faults into rejects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.gettext import read_gettext
from xalign_dist.corpora.hf import read_hf
from xalign_dist.corpora.jsonl import read_jsonl
from xalign_dist.corpora.moses import read_moses
from xalign_dist.corpora.parquet import read_parquet
from xalign_dist.corpora.places import bare_name, ending, find_files, id_prefix, locate
from xalign_dist.corpora.rows import Raw, RowBuilder
from xalign_dist.corpora.tmx import read_tmx
from xalign_dist.corpora.tsv import read_tsv
from xalign_dist.errors import ConfigError, DataError
from xalign_dist.records import Chunk

Reader = Callable[[str, Any, CorpusConfig], Iterator[Raw]]

READERS: dict[str, Reader] = {
    "parquet": read_parquet,
    "jsonl": read_jsonl,
    "tsv": read_tsv,
    "moses": read_moses,
    "tmx": read_tmx,
    "gettext": read_gettext,
    "hf": read_hf,
}

_ENDINGS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".tmx": "tmx",
    ".po": "gettext",
    ".mo": "gettext",
    ".arrow": "hf",
}
# Read as plain lines these would give markup, quotes or bytes for sentences.
_NOT_LINES = {".csv", ".xml", ".html", ".htm", ".zip", ".tar", ".tgz", ".bz2", ".pdf"}


def read_corpus(cfg: CorpusConfig, rows_per_chunk: int = 10_000) -> Iterator[Chunk]:
    """Stream the records of ``cfg.path`` (file, folder, glob, URI) in file order.

    Kept rows have the ``PAIR`` or ``SENTENCE`` schema, rejects the same with reason and detail.
    Missing ids are made from the file's name and the row's number, from 0.

    Raises:
        DataError: missing, damaged, empty, without the needed columns, or with too many faults, or
            without a row that can be used.
        ConfigError: the format cannot be told from the name, or a setting does not fit it.
        DependencyError: a package for this format or URI is missing.
    """
    filesystem, root = locate(cfg.path)
    files = find_files(filesystem, root, _ENDINGS, cfg.format)
    if cfg.target_path is not None and len(files) > 1:
        raise ConfigError(
            f"{cfg.path}: {len(files)} files for one corpora.target_path",
            "make each pair of line-aligned files a corpus of its own",
        )
    left, read, kept, last = cfg.max_rows, 0, 0, ""
    for path in files:
        reader = READERS[guess_format(path, cfg, filesystem) if cfg.format == "auto" else cfg.format]
        name = PurePosixPath(bare_name(path)).stem
        builder = RowBuilder(cfg, path, name, id_prefix(path, root))
        yield from builder.chunks(reader(path, filesystem, cfg), rows_per_chunk, left)
        read, kept, last = read + builder.read, kept + builder.kept, builder.last_reject or last
        left = None if left is None else left - builder.read
        if left == 0:
            break
    if read == 0:
        raise DataError(f"{cfg.path}: no rows", "the corpus is empty: check the path and the export")
    if kept == 0:
        raise DataError(
            f"{cfg.path}: none of its {read} rows can be used, the last is {last}",
            "check the languages and columns of the corpus",
        )


def guess_format(path: str, cfg: CorpusConfig, filesystem: Any) -> str:
    """The format by the file's ending; a folder is a saved dataset, two files are Moses.

    A file of sentences with an unknown ending is plain lines.

    Raises:
        ConfigError: unknown ending.
    """
    if filesystem.isdir(path):
        return "hf"
    if cfg.target_path is not None:
        return "moses"
    found = ending(path)
    if cfg.kind == "sentences" and (found == ".txt" or found not in {*_ENDINGS, *_NOT_LINES}):
        return "moses"
    if found in _ENDINGS:
        return _ENDINGS[found]
    raise ConfigError(
        f"{path}: the format of a {cfg.kind} corpus cannot be told from {found or 'its name'!r}",
        f"set corpora.format to one of {', '.join(READERS)}, or target_path for line-aligned files",
    )
