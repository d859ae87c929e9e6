"""Where a path or URI leads, and which files a corpus has there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import fsspec

from xalign_dist.errors import DataError, DependencyError

COMPRESSIONS = (".gz", ".xz", ".zst")
_DATASET_FILES = ("dataset_info.json", "dataset_dict.json")


def locate(path: str) -> tuple[Any, str]:
    """(file system, path in it) of a local path or any fsspec URI.

    Raises:
        DataError: no such kind of URI.
        DependencyError: the package for this kind of URI is missing.
    """
    try:
        filesystem, root = fsspec.core.url_to_fs(path)
    except ValueError as err:
        raise DataError(f"{path}: {err}", "use a local path or a URI such as s3://bucket/file") from err
    except ImportError as err:
        raise DependencyError(f"{path}: {err}", "pip install the package that this URI needs") from err
    return filesystem, root


def bare_name(path: str) -> str:
    """The path without its compression ending."""
    for compression in COMPRESSIONS:
        path = path.removesuffix(compression)
    return path


def reason_of(err: OSError) -> str:
    """The first line of what the system says, without error number and path."""
    return err.strerror or (str(err).splitlines() or [type(err).__name__])[0]


def find_files(filesystem: Any, root: str, endings: Mapping[str, str], wanted: str) -> list[str]:
    """The files of a corpus, sorted: one file, a saved dataset, a folder's files, or what a glob finds.

    In a folder, what is named with ``.`` or ``_`` at the start is passed over (other programs'
    bookkeeping, such as ``_SUCCESS``), and so is a compiled catalog beside its source.

    Args:
        endings: file ending -> format.
        wanted: a format's name, or ``auto`` for any known one.

    Raises:
        DataError: nothing there.
    """
    # A file may be named d[1].tsv: what exists under this very name is meant.
    if any(c in root for c in "*?[") and not filesystem.exists(root):
        found = sorted(p for p in filesystem.glob(root) if not filesystem.isdir(p))
        if not found:
            raise DataError(f"{root}: no file matches", "check the glob")
        return found
    if not filesystem.exists(root):
        raise DataError(f"{root}: no such file or folder", "check the path of the corpus")
    if not filesystem.isdir(root) or wanted == "hf" or is_dataset(filesystem, root):
        return [root]
    names = [p for p in sorted(filesystem.find(root)) if not _hidden(p.removeprefix(root))]
    found = [p for p in names if (kind := endings.get(ending(p))) and wanted in ("auto", kind)]
    if not found and wanted != "auto":
        found = names
    found = [p for p in found if not (p.endswith(".mo") and p.removesuffix(".mo") + ".po" in found)]
    if not found:
        known = f"known endings: {', '.join(endings)}, also with {' '.join(COMPRESSIONS)}"
        raise DataError(f"{root}: no file of a known format", known)
    return found


def _hidden(inside: str) -> bool:
    return any(part.startswith((".", "_")) for part in inside.strip("/").split("/"))


def is_dataset(filesystem: Any, root: str) -> bool:
    """Whether a folder was written by ``datasets.save_to_disk``."""
    return any(filesystem.exists(f"{root}/{name}") for name in _DATASET_FILES)


def ending(path: str) -> str:
    """The ending that tells the format: lower case, without that of the compression."""
    return PurePosixPath(bare_name(path)).suffix.lower()


def id_prefix(path: str, root: str) -> str:
    """What ids of a file's rows begin with: its place from the corpus folder on, e.g. ``news/2019.de``.

    The folder is part of it because ``en/web.txt`` and ``de/web.txt`` are often read together.
    """
    fixed = re.split(r"[*?\[]", root)[0]
    folder = PurePosixPath(fixed) if fixed == root else PurePosixPath(fixed + "x").parent
    if path == root:
        folder = folder.parent
    return str(PurePosixPath(bare_name(path)).relative_to(folder.parent))
