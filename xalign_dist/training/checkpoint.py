"""Checkpoints: atomic, verified, whole (any world size, any ZeRO stage), free of pickle."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from xalign_dist.errors import OutputError
from xalign_dist.training.storage import MISSING, open_storage, patiently, storage_faults

_log = logging.getLogger(__name__)
_MANIFEST = "manifest.json"
_NAME = re.compile(r"step=(\d{8})$")
_SCHEMA = 1
_ASIDE = ".writing-"
#: What reading a damaged checkpoint raises; TypeError: JSON of another form in the manifest. Other faults of
#: the storage may pass, and say nothing about the checkpoint.
_CORRUPT = (*MISSING, ValueError, KeyError, TypeError, SafetensorError)


@dataclass
class Checkpoint:
    """Named groups of tensors after ``step`` steps, and plain figures beside them."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    figures: dict[str, Any]


class Checkpoints:
    """The checkpoints under a directory or URI, ``step=N`` each.

    A checkpoint is its tensor files and, last, a manifest with every file's size and digest. It counts
    only if the manifest is there and everything matches, so that a kill at any moment leaves the one
    before. Local ones are written aside and renamed; object stores have no rename, there the manifest
    written last does the same.
    """

    def __init__(self, root: str, keep: int) -> None:
        """Under ``root`` (any fsspec URI), the newest ``keep`` stay."""
        self._fs, self._root, self._local = open_storage(root)
        self._keep = keep

    def path(self, step: int) -> str:
        """Where the checkpoint of ``step`` is or would be."""
        return (
            str(self._fs.unstrip_protocol(f"{self._root}/step={step:08d}"))
            if not self._local
            else (f"{self._root}/step={step:08d}")
        )

    def save(self, checkpoint: Checkpoint) -> str:
        """Write; then drop the oldest beyond ``keep``. Returns the checkpoint's path.

        Raises:
            OutputError: not writable.
        """
        target = f"{self._root}/step={checkpoint.step:08d}"
        try:
            self._fs.makedirs(self._root, exist_ok=True)
            with self._aside() as folder:
                _write(folder, checkpoint)
                patiently(lambda: self._publish(folder, target))
        except storage_faults() as err:
            raise OutputError(
                f"{target}: checkpoint not written ({err})", "check space and rights of the output directory"
            ) from None
        faults: tuple[type[Exception], ...] = (OutputError, *storage_faults())
        try:
            self._drop_old(checkpoint.step)
        except faults as err:
            _log.warning("%s: older checkpoints not removed (%s)", self._root, err)
        return target

    def _drop_old(self, newest: int) -> None:
        # Training goes on from the newest valid one, so that what is newer than this one is damaged, and
        # would be kept in place of a good one.
        steps = self.steps()
        upto = [step for step in steps if step <= newest]
        for step in (set(steps) - set(upto[-self._keep :])) - {newest}:
            self._fs.rm(f"{self._root}/step={step:08d}", recursive=True)

    def sweep(self) -> None:
        """Remove what a killed writer left half-written. For the process that writes here, at its start."""
        if self._local and self._fs.exists(self._root):
            for folder in Path(self._root).glob(f"{_ASIDE}*"):
                shutil.rmtree(folder, ignore_errors=True)

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, valid or not, ascending.

        Raises:
            OutputError: the storage cannot be read.
        """
        with _faults_named(self._root):
            return patiently(self._steps)

    def _steps(self) -> list[int]:
        if not self._fs.exists(self._root):
            return []
        self._fs.invalidate_cache(self._root)
        found = (_NAME.search(str(name).rstrip("/")) for name in self._fs.ls(self._root, detail=False))
        return sorted(int(match.group(1)) for match in found if match)

    def newest(self) -> Checkpoint | None:
        """The newest valid checkpoint; corrupt ones are skipped with a warning. None: there is none.

        Raises:
            OutputError: the storage cannot be read. An older checkpoint, or none, would then train again
                what is done, and the next one written would remove the newer ones.
        """
        for step in reversed(self.steps()):
            path = f"{self._root}/step={step:08d}"
            try:
                return self._read(path)
            except _CORRUPT as err:
                _log.warning("%s: corrupt checkpoint skipped (%s)", path, err)
        return None

    @classmethod
    def load(cls, path: str) -> Checkpoint:
        """The checkpoint ``path`` (``.../step=N``), or the newest of the job whose ``work`` it is.

        Raises:
            OutputError: missing, corrupt, or the storage cannot be read.
        """
        remedy = "delete the directory of the round that wrote it and run again"
        folder, _, name = path.rstrip("/").rpartition("/")
        if not _NAME.match(name):
            newest = cls(f"{path}/checkpoints", keep=1).newest()
            if newest is None:
                raise OutputError(f"{path}: no valid checkpoint", remedy)
            return newest
        store = cls(folder, keep=1)
        try:
            return store._read(f"{store._root}/{name}")
        except _CORRUPT as err:
            raise OutputError(f"{path}: no valid checkpoint ({err})", remedy) from None

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        # Beside the target where it is local: a rename does not cross file systems.
        folder = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=self._root if self._local else None))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, folder: Path, target: str) -> None:
        if self._fs.exists(target):
            self._fs.rm(target, recursive=True)
        if self._local:
            folder.rename(target)
            return
        names = sorted(file.name for file in folder.iterdir())
        for name in [*(n for n in names if n != _MANIFEST), _MANIFEST]:
            self._fs.put_file(str(folder / name), f"{target}/{name}")

    def _read(self, path: str) -> Checkpoint:
        with _faults_named(path):
            return patiently(lambda: self._read_once(path))

    def _read_once(self, path: str) -> Checkpoint:
        if self._local:
            return _load(Path(path))
        with tempfile.TemporaryDirectory() as folder:
            for name in self._fs.ls(path, detail=False):
                self._fs.get_file(name, str(Path(folder) / Path(str(name)).name))
            return _load(Path(folder))


@contextmanager
def _faults_named(path: str) -> Iterator[None]:
    """Faults of the storage become an :class:`OutputError`; what is missing or damaged stays as it is."""
    try:
        yield
    except MISSING:
        raise
    except storage_faults() as err:
        raise OutputError(
            f"{path}: checkpoint not readable ({type(err).__name__}: {err})",
            "check the storage, the network and the rights; the same command continues",
        ) from None


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    files = {}
    for name, tensors in checkpoint.tensors.items():
        file = folder / f"{name}.safetensors"
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, file)
        files[file.name] = {"bytes": file.stat().st_size, "blake2b": _digest(file)}
    manifest = {"schema": _SCHEMA, "step": checkpoint.step, "files": files, "figures": checkpoint.figures}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")


def _load(folder: Path) -> Checkpoint:
    manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
    if manifest["schema"] != _SCHEMA:
        raise ValueError(f"schema {manifest['schema']}, expected {_SCHEMA}")
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, wanted in manifest["files"].items():
        file = folder / Path(name).name
        if file.stat().st_size != wanted["bytes"] or _digest(file) != wanted["blake2b"]:
            raise ValueError(f"{name} does not match its digest")
        tensors[file.stem] = load_file(file)
    return Checkpoint(int(manifest["step"]), tensors, manifest["figures"])


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """An optimizer's state as flat tensors ``NUMBER.KEY``, for a checkpoint."""
    if optimizer is None:
        return {}
    state = optimizer.state_dict()["state"]
    return {f"{k}.{key}": torch.as_tensor(v) for k, entry in state.items() for key, v in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer | None, tensors: dict[str, Tensor]) -> None:
    """Undo :func:`optimizer_tensors`."""
    if optimizer is None or not tensors:
        return
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value.clone()
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
