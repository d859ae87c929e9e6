"""What goes wrong in a worker reaches the user as it was raised, not as Ray's account of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ray.exceptions import RayError

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


def for_workers(path: str) -> str:
    """A local path as a worker finds it, whose working directory is another; other names as they are."""
    local = Path(path)
    return str(local.absolute()) if "://" not in path and (local.exists() or local.parent != Path()) else path
