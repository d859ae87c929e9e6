"""Local directories and object stores behind one small face, with patience for faults that may pass."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from fsspec.core import url_to_fs
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

T = TypeVar("T")
#: There is nothing of that name, or it is of another kind: no fault of the storage's.
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
#: No use trying again.
_LASTING = (*MISSING, FileExistsError, PermissionError)
_ATTEMPTS = 5


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


@functools.cache
def storage_faults() -> tuple[type[Exception], ...]:
    """What disks and stores raise: botocore's own errors are no OSErrors."""
    try:
        botocore: Any = importlib.import_module("botocore.exceptions")
    except ImportError:
        return (OSError,)
    return (OSError, botocore.BotoCoreError, botocore.ClientError)


def patiently(work: Callable[[], T]) -> T:
    """``work()``, up to five times within seconds where the storage fails in a way that may pass.

    Raises:
        what the last attempt raised.
    """
    attempts = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential_jitter(multiplier=0.2, max=5.0, jitter=0.2),
        retry=retry_if_exception(lambda e: isinstance(e, storage_faults()) and not isinstance(e, _LASTING)),
        reraise=True,
    )
    return attempts(work)
