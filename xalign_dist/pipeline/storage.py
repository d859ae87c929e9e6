"""Objects under a URI, with retries, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from xalign_dist.corpora.places import locate, reason_of
from xalign_dist.errors import DataError, DependencyError, OutputError
from xalign_dist.training.storage import storage_faults

T = TypeVar("T")
_LONGEST_WAIT = 20.0
# No use trying again: somebody has to do something first.
_LASTING = (FileNotFoundError, PermissionError)
_LASTING_NAMES = {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound"}


class ObjectStore:
    """Files under one URI.

    Args:
        uri: of a folder, which need not exist; its bucket must.
        retries: attempts after a failed request, beyond those of the library below.

    Raises:
        OutputError: the URI holds a password, or names no kind of storage.
        DependencyError: the package for this kind of URI is missing.
    """

    def __init__(self, uri: str, retries: int) -> None:
        if "@" in urlsplit(uri).netloc:
            raise OutputError(
                f"{urlsplit(uri).scheme}://...: credentials do not belong in --out, which is logged",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, and leave them out of it",
            )
        self.uri, self._retries = uri, retries
        try:
            self._fs, self._root = locate(uri)
        except DependencyError as err:
            raise DependencyError(err.problem, "pip install 'xalign_dist[s3]' (gcsfs for gs://)") from None
        except DataError as err:
            raise OutputError(err.problem, "use a folder or a URI such as s3://bucket/run") from None
        self._fs.use_listings_cache = False
        self._faults = storage_faults()

    def read(self, name: str) -> bytes | None:
        """A small object; None: there is none."""
        return self._try(lambda: bytes(self._fs.cat_file(f"{self._root}/{name}")), absent=True)

    def write(self, name: str, data: bytes) -> None:
        """A small object, whole or not at all."""
        self._try(lambda: self._fs.pipe_file(f"{self._root}/{name}", data))

    def put(self, path: Path, name: str) -> None:
        """Upload a file; a large one in parts, each of which is tried again by itself."""
        if not path.exists():
            raise FileNotFoundError(path)
        self._try(lambda: self._fs.put_file(str(path), f"{self._root}/{name}"))

    def get(self, name: str, path: Path) -> bool:
        """Download to ``path``; False: there is no such object."""

        def bring() -> bool:
            self._fs.get_file(f"{self._root}/{name}", str(path))
            return True

        return bool(self._try(bring, absent=True))

    def names(self) -> list[str]:
        """Names of everything under the URI, relative to it; empty too where it does not exist."""

        def find() -> list[str]:
            self._fs.invalidate_cache()
            return sorted(str(p).removeprefix(self._root).lstrip("/") for p in self._fs.find(self._root))

        return self._try(find, absent=True) or []

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects; those that are gone already are fine."""
        for name in names:
            self._try(lambda name=name: self._fs.rm_file(f"{self._root}/{name}"), absent=True)  # type: ignore[misc]

    def _try(self, work: Callable[[], T], absent: bool = False) -> T | None:
        attempts = Retrying(
            stop=stop_after_attempt(self._retries + 1),
            wait=wait_exponential_jitter(multiplier=0.2, max=_LONGEST_WAIT),
            retry=retry_if_exception(self._passes),
            reraise=True,
        )
        try:
            return attempts(work)
        except self._faults as err:
            if absent and isinstance(err, FileNotFoundError):
                return None
            raise _named(self.uri, err) from None

    def _passes(self, err: BaseException) -> bool:
        lasting = isinstance(err, _LASTING) or type(err).__name__ in _LASTING_NAMES
        return isinstance(err, self._faults) and not lasting


def _named(uri: str, err: Exception) -> OutputError:
    reason = reason_of(err) if isinstance(err, OSError) else str(err).splitlines()[0]
    if type(err).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
        return OutputError(
            f"{uri}: no credentials ({reason})",
            "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
        )
    if isinstance(err, PermissionError):
        return OutputError(
            f"{uri}: access refused ({reason})",
            "check key and policy: s3:ListBucket, GetObject, PutObject, DeleteObject, AbortMultipartUpload",
        )
    if isinstance(err, FileNotFoundError):
        return OutputError(f"{uri}: no such bucket ({reason})", "create the bucket, or correct --out")
    return OutputError(
        f"{uri}: the store fails again and again ({type(err).__name__}: {reason})",
        "check network and AWS_ENDPOINT_URL; the same command continues",
    )
