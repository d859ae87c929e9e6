"""Local directories and object stores behind one small face."""

from __future__ import annotations

from typing import Any, NamedTuple

from fsspec.core import url_to_fs


class Storage(NamedTuple):
    """A directory or URI: the fsspec file system, the path in it, and whether it is a local disk."""

    fs: Any
    path: str
    local: bool


def open_storage(uri: str) -> Storage:
    """Open ``uri`` (a path, or any fsspec URI), which need not exist."""
    fs, path = url_to_fs(uri)
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return Storage(fs, path.rstrip("/"), "file" in protocols)
