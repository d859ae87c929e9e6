"""How much time a lost worker or node cost: said on the console and logged as a warning."""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

Say = Callable[[str], None]


def lost(text: str, say: Say | None = None, **figures: Any) -> None:
    """Log a loss as a warning with its ``figures``, and ``say`` it; without ``say`` the warning is shown."""
    _log.warning("%s", text, extra={"figures": {"event": "lost", **figures}, "said": say is not None})
    if say is not None:
        say(text)


class TrainingTime:
    """Follows the steps of a training over its restarts, and tells what each of them cost."""

    def __init__(self, say: Say) -> None:
        self._say, self._attempt = say, ""
        self._first, self._done_at = 0, array("d")  # when step `_first + i` was done

    def heard(self, attempt: str, step: int, at: float) -> None:
        """A step was done.

        Args:
            attempt: names the group of workers; another one than before means a restart, from the checkpoint
                of ``step - 1``.
            step: from 1.
            at: seconds, of any one clock.
        """
        if not self._done_at:
            self._first = step
        elif attempt != self._attempt:
            self._tell(step - 1, at)
        self._attempt = attempt
        del self._done_at[max(0, step - self._first) :]
        self._done_at.append(at)

    def _tell(self, checkpoint: int, at: float) -> None:
        last = self._first + len(self._done_at) - 1
        steps = max(0, last - checkpoint)
        # Before the first step was done nobody looked at the clock.
        since = self._done_at[min(max(0, checkpoint - self._first), len(self._done_at) - 1)]
        seconds, still = at - since, at - self._done_at[-1]
        lost(
            f"training was interrupted after step {last} and goes on after step {checkpoint}: {steps} steps "
            f"are done again, {seconds:.1f} s are lost, {still:.1f} s of them without training",
            self._say,
            stopped_after=last,
            checkpoint=checkpoint,
            steps=steps,
            seconds=round(seconds, 2),
            seconds_without_training=round(still, 2),
        )


def lost_pieces(seconds: Iterable[float]) -> None:
    """Tell of each piece of embedding that was begun twice; ``seconds`` as :meth:`Begun.begin` gave them."""
    for one in seconds:
        if one:
            text = f"embedding: a block of texts was begun again {one:.1f} s after it was begun first"
            lost(text, seconds=round(float(one), 2))


class Begun:
    """Which pieces of work are under way, as files that all nodes see: a piece begun twice was lost once.

    Args:
        folder: one that all nodes see.
    """

    def __init__(self, folder: Path) -> None:
        # Of this command alone: what a killed one left behind says nothing about this one's losses.
        self.folder = folder / f".begun-{uuid.uuid4().hex[:12]}"
        self.folder.mkdir(parents=True)

    def begin(self, piece: int) -> float:
        """Seconds since ``piece`` was begun before, and lost; 0: it was not."""
        mark = self.folder / str(piece)
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return max(0.01, time.time() - mark.stat().st_mtime)
        return 0.0

    def end(self, piece: int) -> None:
        """``piece`` is done."""
        (self.folder / str(piece)).unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is under way any more."""
        shutil.rmtree(self.folder, ignore_errors=True)
