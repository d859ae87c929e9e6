"""Any corpus as a stream of records: find its files, choose the reader, turn faults into rejects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import fsspec

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.gettext import read_gettext
from xalign_dist.corpora.hf import read_hf
from xalign_dist.corpora.jsonl import read_jsonl
from xalign_dist.corpora.lines import bare_name
from xalign_dist.corpora.moses import read_moses
from xalign_dist.corpora.parquet import read_parquet
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
    ".tmx": "tmx",
    ".po": "gettext",
    ".mo": "gettext",
}


def read_corpus(cfg: CorpusConfig, rows_per_chunk: int = 10_000) -> Iterator[Chunk]:
    """Stream the records of ``cfg.path`` (file, folder, glob, URI) in file order.

    Kept rows have the ``PAIR`` or ``SENTENCE`` schema, rejects the same with reason and detail.

    Raises:
        DataError: missing, damaged, empty, without the needed columns, or with too many faults.
        ConfigError: the format cannot be told from the name.
    """
    filesystem, root = fsspec.core.url_to_fs(cfg.path)
    read = 0
    for path in _files(cfg, filesystem, root):
        kind = cfg.format if cfg.format != "auto" else guess_format(path, cfg, filesystem)
        builder = RowBuilder(cfg, path, _short_name(path))
        yield from builder.chunks(READERS[kind](path, filesystem, cfg), rows_per_chunk)
        read += builder.read
    if read == 0:
        raise DataError(f"{cfg.path}: no rows", "the corpus is empty: check the path and the export")


def guess_format(path: str, cfg: CorpusConfig, filesystem: Any) -> str:
    """The format by the file's ending; a folder with dataset_info.json is a saved dataset.

    Raises:
        ConfigError: unknown ending.
    """
    if filesystem.isdir(path):
        return "hf"
    if cfg.target_path is not None:
        return "moses"
    bare = bare_name(path)
    ending = PurePosixPath(bare).suffix.lower()
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    if cfg.kind == "sentences":
        return "moses"  # plain lines
    raise ConfigError(
        f"{path}: the format of a pairs corpus cannot be told from {ending or 'its name'!r}",
        f"set corpora.format to one of {', '.join(READERS)}, or target_path for line-aligned files",
    )


def _files(cfg: CorpusConfig, filesystem: Any, root: str) -> list[str]:
    if any(c in root for c in "*?["):
        found = sorted(filesystem.glob(root))
    elif not filesystem.exists(root):
        raise DataError(f"{cfg.path}: no such file or folder", "check the path of the corpus")
    elif filesystem.isdir(root) and not _is_dataset(filesystem, root) and cfg.format != "hf":
        found = sorted(p for p in filesystem.find(root) if _readable(p, cfg))
    else:
        found = [root]
    if not found:
        raise DataError(
            f"{cfg.path}: no file of a known format", f"known endings: {', '.join(_ENDINGS)} (also .gz .xz .zst)"
        )
    return found


def _is_dataset(filesystem: Any, root: str) -> bool:
    names = ("dataset_info.json", "dataset_dict.json")
    return any(filesystem.exists(f"{root}/{name}") for name in names)


def _readable(path: str, cfg: CorpusConfig) -> bool:
    name = PurePosixPath(path).name
    if name.startswith((".", "_")):
        return False
    return cfg.format != "auto" or PurePosixPath(bare_name(path)).suffix.lower() in _ENDINGS


def _short_name(path: str) -> str:
    return PurePosixPath(bare_name(path)).stem
