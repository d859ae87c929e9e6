"""Hugging Face `datasets` saved on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.columns import require_column
from xalign_dist.corpora.rows import Raw
from xalign_dist.errors import DataError, DependencyError


def read_hf(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Rows of a dataset (or of all splits of a dataset dict) written by ``save_to_disk``.

    Raises:
        DependencyError: the package `datasets` is missing.
        DataError: no dataset there, or a column is missing.
    """
    try:
        import datasets
    except ImportError:
        raise DependencyError(
            f"{path}: reading it needs the package datasets", "pip install 'xalign_dist[hf]'"
        ) from None
    try:
        loaded = datasets.load_from_disk(path, storage_options=getattr(filesystem, "storage_options", None))
    except (OSError, ValueError, KeyError) as err:
        raise DataError(f"{path}: not a saved dataset ({err})", "write it with save_to_disk") from err
    splits = loaded.values() if isinstance(loaded, datasets.DatasetDict) else [loaded]
    text = ("src", "tgt") if cfg.kind == "pairs" else ("text",)
    number = 0
    for split in splits:
        for ours in text:
            require_column(split.column_names, cfg.columns.get(ours, ours), path)
        for fields in split:
            yield Raw({**fields, **{o: fields.get(t) for o, t in cfg.columns.items()}}, f"row {number}")
            number += 1
