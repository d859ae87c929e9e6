"""Hugging Face `datasets` on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.columns import TEXT_COLUMNS, check_columns, map_fields
from xalign_dist.corpora.places import reason_of
from xalign_dist.corpora.rows import Raw
from xalign_dist.errors import DataError, DependencyError
from xalign_dist.records import PAIR, SENTENCE


def read_hf(path: str, filesystem: Any, cfg: CorpusConfig) -> Iterator[Raw]:
    """Rows of what ``save_to_disk`` wrote (all splits of a dataset dict), or of one Arrow file.

    Nested fields have dotted names, such as ``translation.de``.

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
        if path.endswith(".arrow"):
            loaded = datasets.Dataset.from_file(path)
        else:
            uri = filesystem.unstrip_protocol(path)
            loaded = datasets.load_from_disk(uri, storage_options=filesystem.storage_options)
    except (OSError, ValueError, KeyError) as err:
        reason = reason_of(err) if isinstance(err, OSError) else str(err).partition("\n")[0]
        raise DataError(f"{path}: not a saved dataset ({reason})", "write it with save_to_disk") from err
    parts = loaded if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
    ours = (PAIR if cfg.kind == "pairs" else SENTENCE).names
    for name, part in parts.items():
        part = part.flatten()
        check_columns(part.column_names, cfg.columns, TEXT_COLUMNS[cfg.kind], path)
        wanted = {*cfg.columns.values(), *ours}
        # Only these: iterating would decode images and sound of other columns.
        chosen = part.select_columns([c for c in part.column_names if c in wanted])
        for number, fields in enumerate(chosen):
            yield Raw(map_fields(fields, cfg.columns), f"{name} row {number}".lstrip())
