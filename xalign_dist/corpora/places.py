"""Where a path or URI leads."""

from __future__ import annotations

from typing import Any

import fsspec

from xalign_dist.errors import DataError, DependencyError


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


def reason_of(err: OSError) -> str:
    """The first line of what the system says, without error number and path."""
    return err.strerror or (str(err).splitlines() or [type(err).__name__])[0]
