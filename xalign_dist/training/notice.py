"""What the outside may ask of a training between two steps: save now, or save and stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from enum import IntEnum
from types import FrameType, TracebackType
from typing import Any, Self

import torch

from xalign_dist.objective.gather import max_over_ranks


class Notice(IntEnum):
    """The stronger is the larger."""

    NONE = 0
    SAVE = 1
    STOP = 2


#: Asked after every step, on every rank; all ranks get the same answer.
AskNotice = Callable[[], Notice]


def no_notice() -> Notice:
    """Nobody ever asks for anything."""
    return Notice.NONE


class Terminated:
    """SIGTERM, which machines send before they are taken away, becomes :attr:`Notice.STOP`.

    A context manager; the handler is set only in the main thread, the only one where Python has
    handlers, and the one before is put back.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._before: Any = None
        self._set = False

    @property
    def event(self) -> threading.Event:
        """Set once the signal has come."""
        return self._event

    def __call__(self) -> Notice:
        """The answer of all ranks together."""
        said = Notice.STOP if self._event.is_set() else Notice.NONE
        return Notice(max_over_ranks(int(said), torch.device("cpu")))

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_signal)
            self._set = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._set:
            signal.signal(signal.SIGTERM, self._before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._event.set()
