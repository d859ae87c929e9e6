"""What a run logs: one JSON object a line with run, stage and round; what Ray says goes to a file apart."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xalign_dist.errors import OutputError

EVENTS_FILE = "events.jsonl"
_OURS = ("xalign_dist", "tuning", "jobs")
_log = logging.getLogger(__name__)

_ROUND = re.compile(r"\bround (\d+)")
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+:[^/@\s]+(?=@)")
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY")
_PLACE_NAME = re.compile(r"(PATH|FILE|DIR)$")
# A shorter value is a switch, and would be found in every text.
_SECRET_LENGTH = 8


@dataclass(frozen=True)
class Where:
    """What this thread is at work on; None: nothing of the kind.

    Attributes:
        run: name of the run directory, or of the folder of the results.
        stage: as the manifest names it.
        round: from 1.
    """

    run: str | None = None
    stage: str | None = None
    round: int | None = None


_NOWHERE = Where()
_where: ContextVar[Where] = ContextVar("xalign_where", default=_NOWHERE)


@contextlib.contextmanager
def at(**changes: Any) -> Iterator[None]:
    """Inside it, events of this thread carry ``changes`` (fields of :class:`Where`).

    A new thread starts with none: run it in a copy of the context (:func:`contextvars.copy_context`).
    """
    token = _where.set(replace(_where.get(), **changes))
    try:
        yield
    finally:
        _where.reset(token)


@contextlib.contextmanager
def stage_events(name: str, figures: Mapping[str, Any]) -> Iterator[None]:
    """An event when the stage begins and one when it ends or fails, with its seconds and ``figures``.

    Args:
        name: of the stage; a round is read out of it ("round 2: mine").
        figures: looked at when the stage ends.
    """
    started = time.monotonic()
    with at(**_named(name)):
        _log.info("stage began")
        try:
            yield
        except BaseException as err:
            extra = _ended(started, figures)
            # The console has its own words for it, where the error ends up.
            _log.error("stage failed: %s: %s", type(err).__name__, err, extra={"said": True, **extra})
            raise
        _log.info("stage ended", extra=_ended(started, figures))


def skipped_event(name: str) -> None:
    """An event: the stage was finished earlier."""
    with at(**_named(name)):
        _log.info("stage skipped")


def _named(name: str) -> dict[str, Any]:
    found = _ROUND.search(name)
    return {"stage": name} | ({"round": int(found[1])} if found else {})


def _ended(started: float, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {"figures": {"seconds": round(time.monotonic() - started, 2), **figures}}


class EventFormatter(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, run, stage, round, further figures.

    Line breaks are escaped, and so is all that is not ASCII. Passwords in URIs and the values of environment
    variables that hold tokens or secrets become ``***``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **asdict(_where.get()),
            **getattr(record, "figures", {}),
        }
        if record.exc_info:
            event["trace"] = self.formatException(record.exc_info)
        secrets = _secrets()
        return json.dumps(_plain(event, secrets), default=lambda v: _masked(str(v), secrets))


def _secrets() -> list[str]:
    return [
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and not _PLACE_NAME.search(name) and len(value) >= _SECRET_LENGTH
    ]


def _masked(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return _PASSWORD.sub("***", text)


def _plain(value: Any, secrets: list[str]) -> Any:
    """As JSON has it: it knows no NaN."""
    if isinstance(value, str):
        return _masked(value, secrets)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v, secrets) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, secrets) for v in value]
    return value


class _OnStderr(logging.Handler):
    """Warnings on the console, as Python shows them where nothing is set up; but none that was said there."""

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        if not getattr(record, "said", False):
            # Looked up each time: a progress bar puts its own in place.
            sys.stderr.write(self.format(record) + "\n")


@contextlib.contextmanager
def events(path: Path, run: str) -> Iterator[None]:
    """Append what the package logs meanwhile (from level info) to ``path``, under the name ``run``.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, encoding="utf-8")
    except OSError as err:
        raise OutputError(f"{path}: cannot be written ({err.strerror})", "choose another --out") from err
    file.setFormatter(EventFormatter())
    stderr = _OnStderr(logging.WARNING)
    with contextlib.ExitStack() as undo:
        undo.callback(file.close)
        for logger in map(logging.getLogger, _OURS):
            handlers = [file] if logger.hasHandlers() else [file, stderr]
            undo.callback(logger.setLevel, logger.level)
            if logger.getEffectiveLevel() > logging.INFO:
                logger.setLevel(logging.INFO)
            for handler in handlers:
                logger.addHandler(handler)
                undo.callback(logger.removeHandler, handler)
        undo.enter_context(at(run=run))
        yield


@contextlib.contextmanager
def ray_log_to(path: Path) -> Iterator[None]:
    """Send the loggers of Ray and DeepSpeed to a file meanwhile, away from the console; then nowhere."""
    import ray.data  # sets up its console handler when imported, so that has to come first

    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # Ray announces at warning level that it does the right thing: token authentication is on.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    names = ("ray", ray.data.__name__, "ray.train", "ray.tune", "deepspeed", "DeepSpeed")
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        # The file's folder may go now, and a word that comes later would make an error of it.
        handler.close()
        for logger in loggers:
            logger.handlers = [logging.NullHandler()]
