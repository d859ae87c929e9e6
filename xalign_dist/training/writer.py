"""Checkpoints written beside the steps: a slow storage does not stall the training."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from xalign_dist.training.checkpoint import Checkpoint, Checkpoints


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread. Leaving ``with`` waits for it, whatever happened.

    What is handed over is the training's own copy in main memory (see
    :meth:`~xalign_dist.training.engine.Engine.state`), so that the next steps do not change it.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        """Write to ``checkpoints``."""
        self._checkpoints = checkpoints
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Begin to write; waits for the one before, so that at most one copy lies in memory beside it.

        Raises:
            OutputError: the one before could not be written.
        """
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(checkpoint,), name="xalign-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until everything handed over is safe.

        Raises:
            OutputError: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            self._checkpoints.save(checkpoint)
        except BaseException as err:  # handed to the training, which raises it
            self._fault = err

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.wait()
        elif self._thread is not None:  # the fault that ends the training is the one to hear of
            self._thread.join()
