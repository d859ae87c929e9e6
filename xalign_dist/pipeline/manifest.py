"""manifest.json: which stages are done, from what, with which counts; a finished stage is skipped."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fsspec

import xalign_dist
from xalign_dist.errors import OutputError
from xalign_dist.pipeline.rundir import write_json

_VERSIONS = ("ray", "torch", "transformers", "deepspeed", "pyarrow", "numpy")


def digest(*parts: Any) -> str:
    """A short hash of JSON-like values; the identity of a stage's inputs."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Hash of a file's content, or of the names, sizes and times in a folder."""
    if path.is_dir():
        listing = [(p.name, p.stat().st_size) for p in sorted(path.rglob("*")) if p.is_file()]
        return digest(listing)
    hasher = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()[:16]


def place_digest(path: str) -> str:
    """What tells a changed corpus apart: content of a local file; of others names, sizes and times."""
    local = Path(path)
    if local.exists():
        return file_digest(local)
    filesystem, pattern = fsspec.core.url_to_fs(path)
    found = filesystem.glob(pattern, detail=True)
    return digest({name: [v.get(k) for k in ("size", "mtime", "ETag")] for name, v in found.items()})


class Manifest:
    """The stages of one run directory."""

    def __init__(self, root: Path, committed: Callable[[], None] | None = None) -> None:
        """Of the run at ``root``; ``committed`` is called whenever a stage is recorded."""
        self.path = root / "manifest.json"
        self.root, self._committed = root, committed
        self.meter: Callable[[], Mapping[str, float]] = dict
        """Hours of CPUs and GPUs held until now, by name; a stage is charged what is added while it runs."""
        self.stages: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            try:
                self.stages = json.loads(self.path.read_text("utf-8"))["stages"]
            except (ValueError, KeyError) as err:
                raise OutputError(
                    f"{self.path}: damaged ({err})", "delete it: finished files are found again"
                ) from err

    def done(self, name: str, inputs: str) -> bool:
        """Whether ``name`` finished from the same inputs and its outputs are still there."""
        entry = self.stages.get(name)
        if entry is None or entry["inputs"] != inputs:
            return False
        return all((self.root / p).exists() for p in entry["outputs"])

    def run(
        self,
        name: str,
        inputs: str,
        outputs: list[Path],
        work: Callable[[], Mapping[str, Any] | None],
    ) -> dict[str, Any]:
        """Do ``work`` unless it is done; record it; give back its counts.

        ``work`` returns plain counts; it must write its outputs atomically.
        """
        if self.done(name, inputs):
            return dict(self.stages[name]["counts"])
        started, before = time.time(), self.meter()
        counts = dict(work() or {})
        held = {kind: round(hours - before.get(kind, 0.0), 4) for kind, hours in self.meter().items()}
        self.stages[name] = {
            "inputs": inputs,
            "outputs": [str(p.relative_to(self.root)) for p in outputs],
            "counts": counts,
            "seconds": round(time.time() - started, 2),
            **held,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        write_json(self.path, {"schema": 1, "versions": versions(), "stages": self.stages})
        if self._committed is not None:
            self._committed()
        return counts


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"xalign_dist": xalign_dist.__version__, "python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found
