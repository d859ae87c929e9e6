"""What goes wrong in a worker reaches the user as it was raised, not as Ray's account of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from ray.exceptions import RayError

from xalign_dist import errors
from xalign_dist.errors import StageError, XalignError


@contextlib.contextmanager
def users_errors() -> Iterator[None]:
    """Raise the :class:`XalignError` inside Ray's wrappers; other faults of workers become a StageError.

    Raises:
        XalignError: as the worker raised it.
        StageError: a worker failed for a reason that is not the user's input.
    """
    try:
        yield
    except RayError as err:
        found = _inside(err)
        if found is not None:
            raise found from None
        last = str(err).strip().splitlines()[-1]
        raise StageError(
            f"a worker failed: {last}", "look into logs/run.log; the same command continues where it was"
        ) from err


def _inside(err: BaseException) -> XalignError | None:
    """The first error of ours along ``cause`` and ``__cause__``."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [err]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        # Ray's own wrapper claims to be an instance of what it wraps; it is not what was raised.
        if isinstance(one, XalignError) and not isinstance(one, RayError):
            return one
        pending += [one.__cause__, getattr(one, "cause", None)]
    return None


def pack_error(err: XalignError) -> str:
    """An error as a line of JSON: class, problem, remedy."""
    return json.dumps([type(err).__name__, err.problem, err.remedy])


def unpack_error(text: str) -> XalignError:
    """The error that :func:`pack_error` wrote; an unknown class becomes a StageError."""
    name, problem, remedy = json.loads(text)
    kind = getattr(errors, name, StageError)
    known = isinstance(kind, type) and issubclass(kind, XalignError)
    return kind(problem, remedy) if known else StageError(problem, remedy)


def for_workers(path: str) -> str:
    """A local path as a worker finds it, whose working directory is another; other names as they are."""
    if "://" in path or path.startswith("builtin:"):
        return path
    # A hub id looks like a relative path, so only what exists (or holds a glob) is taken for one.
    exists = Path(path).exists() or any(c in path for c in "*?[")
    return str(Path(path).absolute()) if exists else path
