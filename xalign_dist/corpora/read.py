"""Any corpus as a stream of records: find its files, choose the reader, turn faults into rejects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.gettext import read_gettext
from xalign_dist.corpora.hf import read_hf
from xalign_dist.corpora.jsonl import read_jsonl
from xalign_dist.corpora.lines import COMPRESSIONS, bare_name
from xalign_dist.corpora.moses import read_moses
from xalign_dist.corpora.parquet import read_parquet
from xalign_dist.corpora.places import locate, reason_of
from xalign_dist.corpora.rows import Raw, RowBuilder
from xalign_dist.corpora.tmx import read_tmx
from xalign_dist.corpora.tsv import read_tsv
from xalign_dist.errors import ConfigError, DataError
from xalign_dist.records import Chunk, text_key

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
# Read as plain lines these would give markup or bytes for sentences.
_NOT_LINES = {
    ".csv",
    ".xml",
    ".html",
    ".htm",
    ".zip",
    ".tar",
    ".tgz",
    ".bz2",
    ".7z",
    ".arrow",
    ".pdf",
    ".pkl",
}


def read_corpus(cfg: CorpusConfig, rows_per_chunk: int = 10_000) -> Iterator[Chunk]:
    """Stream the records of ``cfg.path`` (file, folder, glob, URI) in file order.

    Kept rows have the ``PAIR`` or ``SENTENCE`` schema, rejects the same with reason and detail.
    Rows without an id get one made of the file's name, a key of the whole path, and the row's number.

    Raises:
        DataError: missing, damaged, empty, without the needed columns, or with too many faults.
        ConfigError: the format cannot be told from the name.
        LanguageError: a configured language is unknown.
    """
    filesystem, root = locate(cfg.path)
    read = 0
    for path in _files(cfg, filesystem, root):
        kind = cfg.format if cfg.format != "auto" else guess_format(path, cfg, filesystem)
        name = PurePosixPath(bare_name(path)).stem
        limit = None if cfg.max_rows is None else cfg.max_rows - read
        builder = RowBuilder(cfg, path, name, f"{name}-{_path_key(cfg, path, root)}", limit)
        yield from builder.chunks(READERS[kind](path, filesystem, cfg), rows_per_chunk)
        read += builder.read
        if read == cfg.max_rows:
            break
    if read == 0:
        raise DataError(f"{cfg.path}: no rows", "the corpus is empty: check the path and the export")


def guess_format(path: str, cfg: CorpusConfig, filesystem: Any) -> str:
    """The format by the file's ending; a folder is a saved dataset.

    Raises:
        ConfigError: unknown ending.
    """
    if filesystem.isdir(path):
        return "hf"
    if cfg.target_path is not None:
        return "moses"
    ending = PurePosixPath(bare_name(path)).suffix.lower()
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    if cfg.kind == "sentences" and ending not in _NOT_LINES:
        return "moses"  # plain lines
    raise ConfigError(
        f"{path}: the format of a {cfg.kind} corpus cannot be told from {ending or 'its name'!r}",
        f"set corpora.format to one of {', '.join(READERS)}, or target_path for line-aligned files",
    )


def _files(cfg: CorpusConfig, filesystem: Any, root: str) -> list[str]:
    try:
        if filesystem.exists(root):
            hits = [root]
        elif any(c in root for c in "*?["):
            hits = sorted(filesystem.glob(root))
        else:
            hits = []
        found = [path for hit in hits for path in _expanded(cfg, filesystem, hit)]
    except OSError as err:
        raise DataError(f"{cfg.path}: cannot be listed ({reason_of(err)})", "check its rights") from err
    if not hits:
        raise DataError(f"{cfg.path}: no such file or folder", "check the path of the corpus")
    if not found:
        endings = ", ".join((*_ENDINGS, *COMPRESSIONS))
        raise DataError(f"{cfg.path}: no file of a known format in it", f"known endings: {endings}")
    if len(found) > 1 and cfg.target_path is not None:
        raise ConfigError(
            f"{cfg.path}: {len(found)} files, but target_path names one file",
            "list one corpus for each pair of line-aligned files",
        )
    return found


def _expanded(cfg: CorpusConfig, filesystem: Any, path: str) -> list[str]:
    if not filesystem.isdir(path) or cfg.format == "hf" or _is_dataset(filesystem, path):
        return [path]
    return sorted(p for p in filesystem.find(path) if _readable(p.removeprefix(path), cfg))


def _is_dataset(filesystem: Any, folder: str) -> bool:
    names = ("dataset_info.json", "dataset_dict.json")
    return any(filesystem.exists(f"{folder}/{name}") for name in names)


def _readable(inside: str, cfg: CorpusConfig) -> bool:
    # Hidden names and _SUCCESS, _work and the like are other programs' bookkeeping.
    if any(part.startswith((".", "_")) for part in inside.strip("/").split("/")):
        return False
    return cfg.format != "auto" or PurePosixPath(bare_name(inside)).suffix.lower() in _ENDINGS


def _path_key(cfg: CorpusConfig, path: str, root: str) -> str:
    """Tells apart rows of equally named files; the same on every machine for the same ``cfg.path``."""
    fixed = re.split(r"[*?\[]", root)[0].rpartition("/")[0]
    return f"{text_key(f'{cfg.path}|{path.removeprefix(fixed)}') % 16**8:08x}"
