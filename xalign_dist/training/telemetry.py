"""The figures of every step: a JSON line each, and TensorBoard."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboardX import SummaryWriter

from xalign_dist.training.storage import open_storage
from xalign_dist.training.tracking import OpenTrackers


class Telemetry:
    """Writes ``NAME.jsonl`` and the TensorBoard folder ``NAME/`` beside it.

    Opened at the step from which training goes on: lines past it, written by a run that was killed
    after its last checkpoint, are dropped, so that every step stands there once. A URI's files are
    written to a local folder and uploaded by :meth:`flush`.
    """

    def __init__(self, file: str, start_step: int, track: OpenTrackers | None = None) -> None:
        """Keep what ``file`` holds up to ``start_step`` steps, append from then on.

        Args:
            file: path or URI that ends in ``.jsonl``.
            start_step: steps done.
            track: opens the trackers that are told the same figures, given a local folder; None: none.
        """
        self._fs, target, self._local = open_storage(file)
        self._target, _, name = target.rpartition("/")
        self._folder = Path(self._target if self._local else tempfile.mkdtemp(prefix="xalign-telemetry-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = self._folder / name
        if not self._local and self._fs.exists(target):
            self._fs.get_file(target, str(self._file))
        self._truncate(start_step)
        self._lines = self._file.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(self._file.with_suffix("")), purge_step=start_step + 1, flush_secs=30)
        self._trackers = None if track is None else track(str(self._folder))

    def write(self, record: dict[str, Any]) -> None:
        """Append one step's figures; ``step`` is among them. Numbers go to TensorBoard too."""
        self._lines.write(json.dumps(record) + "\n")
        for key, value in record.items():
            if key != "step":
                self._board.add_scalar(key, float(value), record["step"])
        if self._trackers is not None:
            self._trackers.write(record)

    def flush(self) -> None:
        """Make what was written safe; called at checkpoints."""
        self._lines.flush()
        self._board.flush()
        if not self._local:
            for file in self._folder.rglob("*"):
                if file.is_file():
                    self._fs.put_file(
                        str(file), f"{self._target}/{file.relative_to(self._folder).as_posix()}"
                    )

    def close(self, failed: bool = False) -> None:
        """Flush and close; ``failed`` is what trackers are told. Safe to call twice."""
        if self._trackers is not None:
            self._trackers.close(failed)
        if not self._lines.closed:
            self.flush()
            self._lines.close()
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=err is not None)

    def _truncate(self, start_step: int) -> None:
        kept = [line for line in read_telemetry(self._file) if line["step"] <= start_step]
        aside = self._file.with_suffix(".writing")
        aside.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        aside.replace(self._file)


def read_telemetry(file: Path) -> list[dict[str, Any]]:
    """The records of a telemetry file; a last line cut short by a kill is left out. No file: none."""
    if not file.exists():
        return []
    records = []
    for line in file.read_text("utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
