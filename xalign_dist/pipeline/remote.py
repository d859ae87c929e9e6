"""A run directory on object storage: stages work in a local copy, and what they make is uploaded.

The bucket holds the run's files under their own names; ``files.json`` beside them says size and digest
of each. An upload writes files first, then ``files.json``, then the run's ``manifest.json``: whenever it
is killed, no stage counts as done whose files are not there, and a file that ``files.json`` does not
describe counts as missing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from xalign_dist.errors import OutputError
from xalign_dist.pipeline.rundir import write_text
from xalign_dist.pipeline.storage import ObjectStore

INDEX, MANIFEST, CONFIG = "files.json", "manifest.json", "config.yaml"
#: Seconds between uploads while a stage is under way: its checkpoints, vectors, telemetry.
PERIOD = 5.0
_THREADS = 8
# Made anew by the stage that needs them (training sets), or Ray's own books.
_PRIVATE = re.compile(r"(^|/)(training_set|ray|_work)(/|$)|(^|/)\.")
_GROWING = re.compile(r"\.(jsonl|log)$|tfevents")
_HELD = ".held"
"""Folder of the copy in which checkpoints lie while they are uploaded."""
_WORK = re.compile("/".join(("arms", "([^/]+)", r"round=(\d+)", "work", "")))


def scratch_folder(uri: str, scratch: str | None) -> Path:
    """Where the local copy of the run at ``uri`` lies, the same at every start on one machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "xalign_dist" / "runs"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", uri.rsplit("/", 1)[-1]).strip("-.") or "run"
    home = cache if scratch is None else Path(scratch).expanduser()
    return home.resolve() / f"{name}-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"


class Mirror:
    """The run at a URI and its local copy.

    Use: :meth:`fetch`, then everything else inside :meth:`kept`.

    Args:
        uri: any fsspec URI of a folder, e.g. ``s3://bucket/run``.
        scratch: folder for local copies; None: the user's cache.
        retries: attempts after a failed request.

    Raises:
        OutputError: the store cannot be opened, or the copy is in use by another process here.
    """

    def __init__(self, uri: str, scratch: str | None = None, retries: int = 5) -> None:
        self.uri = uri.rstrip("/")
        self.root = scratch_folder(self.uri, scratch)
        # files.json as last agreed upon; beside the copy, because a run directory is empty or a run's.
        self._seen = self.root.with_name(f".{self.root.name}.files.json")
        self._store = ObjectStore(self.uri, retries)
        self._index: dict[str, dict[str, Any]] = {}
        self._sent: dict[str, tuple[int, int]] = {}
        self._left: set[str] = set()
        self._manifest = b""
        self._mutex = threading.Lock()
        self._lock = self._alone()

    def fetch(self) -> None:
        """Make the local copy what the bucket holds, as far as the run still needs it.

        A copy that is ahead of the bucket, because this machine was the last to write there, stays.

        Raises:
            OutputError: no access, or the place holds files of something else.
        """
        said = self._store.read(INDEX)
        if said is None:
            self._fetch_first()
            return
        self._index = _checked(said, self.uri)
        self._manifest = self._store.read(MANIFEST) or b""
        ahead = self._seen.exists() and self._seen.read_bytes() == said
        stages = json.loads(self._manifest or b'{"stages": {}}')["stages"]
        self._left = {name for name in self._index if _superseded(name, stages)}
        if not ahead:
            for name in self._scan().keys() - self._index.keys() - {MANIFEST}:
                (self.root / name).unlink()
            if self._manifest:
                write_text(self.root / MANIFEST, self._manifest.decode())
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda name: self._bring(name, ahead), sorted(self._index.keys() - self._left)))
        self._seen.write_bytes(said)

    def push(self) -> None:
        """Upload what changed since the last time.

        Raises:
            OutputError: the store refuses, or fails again and again.
        """
        with self._mutex:
            # Read first: a stage that ends during the upload belongs to the next one.
            path = self.root / MANIFEST
            manifest = path.read_bytes() if path.exists() else b""
            files = self._scan()
            files.pop(MANIFEST, None)
            changed = [name for name, stamp in files.items() if self._sent.get(name) != stamp]
            whole = [name for name in changed if _WORK.match(name)]
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(self._send, sorted(set(changed) - set(whole))))
            # After the telemetry that they continue; of each checkpoint, its manifest last.
            order = sorted(self._held(whole), key=lambda name: (name.endswith(f"/{MANIFEST}"), name))
            sent = [self._send(name, _HELD) for name in order]
            shutil.rmtree(self.root / _HELD, ignore_errors=True)
            # Where a checkpoint went while it was held there may be no whole one: the old ones stay.
            there = len(order) == len(whole) and all(sent)
            gone = [n for n in self._index if there and n not in files and n not in self._left]
            for name in gone:
                del self._index[name]
            if changed or gone:
                text = json.dumps({"schema": 1, "files": dict(sorted(self._index.items()))}, indent=1)
                self._store.write(INDEX, text.encode())
                self._seen.write_bytes(text.encode())
            if manifest and manifest != self._manifest:
                self._store.write(MANIFEST, manifest)
                self._manifest = manifest
            self._store.remove(gone)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Upload every :data:`PERIOD` seconds inside, and at the end, however it comes."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,), name="xalign-upload", daemon=True)
        watcher.start()
        try:
            yield
        except BaseException:
            done.set()
            watcher.join()
            with contextlib.suppress(OutputError):  # what went wrong first is what is to be said
                self.push()
            raise
        else:
            done.set()
            watcher.join()
            self.push()
        finally:
            os.close(self._lock)

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(PERIOD):
            with contextlib.suppress(OutputError):  # tried again; at a stage's end it counts
                self.push()

    def _fetch_first(self) -> None:
        names = self._store.names()
        if names and CONFIG not in names:
            raise OutputError(f"{self.uri}: holds files that are no run's", "use an empty --out")
        for name in self._scan():
            (self.root / name).unlink()
        config = self._store.read(CONFIG)
        if config is not None:  # killed before its first upload was whole: only the claim counts
            write_text(self.root / CONFIG, config.decode())

    def _bring(self, name: str, ahead: bool) -> None:
        target, entry = self.root / name, self._index[name]
        if target.exists() and (ahead or _entry(target) == entry):
            if _entry(target) == entry:
                self._sent[name] = _stamp(target)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.fetched")
        if not self._store.get(name, aside):
            return
        if _entry(aside) != entry and not _GROWING.search(name):
            aside.unlink()  # written over by an upload that was killed: its stage is done again
            target.unlink(missing_ok=True)
            return
        aside.replace(target)
        self._sent[name] = _stamp(target)

    def _held(self, names: list[str]) -> list[str]:
        """Those of ``names`` that are whole in :data:`_HELD`: hard links, which training cannot remove.

        A checkpoint is a folder; of one that was removed meanwhile no file is held.
        """
        lost = set()
        for name in names:
            link = self.root / _HELD / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            try:
                link.hardlink_to(self.root / name)
            except FileNotFoundError:
                lost.add(link.parent)
        return [name for name in names if (self.root / _HELD / name).parent not in lost]

    def _send(self, name: str, folder: str = "") -> bool:
        """Upload it from ``folder`` of the copy; False: the file is gone."""
        path = self.root / folder / name
        try:
            stamp = _stamp(path)
            entry = _entry(path)
            if self._index.get(name) != entry:
                self._store.put(path, name)
            changed = _stamp(path) != stamp
        except (FileNotFoundError, OutputError):
            if path.exists():
                raise
            return False  # a stage tidied up meanwhile
        if changed and not _GROWING.search(name):
            self._index.pop(name, None)
            return True
        self._index[name] = entry
        self._sent[name] = stamp
        return True

    def _scan(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder) / name
                inside = path.relative_to(self.root).as_posix()
                if not _PRIVATE.search(inside):
                    with contextlib.suppress(FileNotFoundError):
                        found[inside] = _stamp(path)
        return found

    def _alone(self) -> int:
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.root.with_name(f".{self.root.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as err:
            raise OutputError(
                f"{self.root}: no place for the local copy of {self.uri} ({err.strerror})",
                "set runtime.scratch to a folder you may write to",
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise OutputError(
                f"{self.uri}: another process on this machine works on it", "wait for its end, or stop it"
            ) from None
        return handle


def _checked(text: bytes, uri: str) -> dict[str, dict[str, Any]]:
    """The index; names that lead out of the run are refused, whoever wrote them."""
    try:
        files = {str(k): dict(v) for k, v in json.loads(text)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise OutputError(
            f"{uri}/{INDEX}: damaged ({err})", "use a new --out, or remove what is there"
        ) from None
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or _PRIVATE.search(name):
            raise OutputError(f"{uri}/{INDEX}: names {name!r}, which is no file of a run", "use a new --out")
    return files


def _superseded(name: str, stages: dict[str, Any]) -> bool:
    """Checkpoints of a round that is done, as is the one that started from them."""
    found = _WORK.match(name)
    if found is None:
        return False
    arm, number = found[1], int(found[2])
    return {f"{arm}: round {number}", f"{arm}: round {number + 1}"} <= stages.keys()


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return {"bytes": path.stat().st_size, "blake2b": digest}


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
