"""The run directory: where everything of a run lies, and the guard against mixing two runs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xalign_dist.config import RunConfig, dump_config
from xalign_dist.errors import OutputError

# Settings that change how a run is carried out but not what it computes.
_OPERATIONAL = ("runtime", "tracking")

ON_STORES = ("run", "train")
"""Verbs whose ``--out`` may be a URI; the others call :func:`local_only`."""


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: the place is not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(aside).replace(path)
    except OSError as err:
        raise OutputError(f"{path}: cannot be written ({err.strerror})", "choose another --out") from err


def write_json(path: Path, data: Any) -> None:
    """:func:`write_text` of indented JSON."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def publish_model(trained: Path, model: Path) -> None:
    """Copy the finished encoder to ``model``; an older one there is replaced when the copy is whole."""
    aside = model.with_name(f".{model.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(trained, aside)
    shutil.rmtree(model, ignore_errors=True)
    aside.rename(model)


def is_uri(out: str) -> bool:
    """Whether ``out`` is on an object store."""
    return "://" in out


def local_only(out: str, verb: str) -> str:
    """``out``, of a verb that does not write to object stores.

    Raises:
        OutputError: it is a URI.
    """
    if "://" in out:
        raise OutputError(
            f"{out}: xalign {verb} writes to a file system; object stores are for `xalign run` and `train`",
            "use a local or shared file system path (NFS, EFS, Filestore), and copy the results",
        )
    return out


@dataclass(frozen=True)
class RunDir:
    """Paths inside a run directory; docs/formats.md describes the files."""

    root: Path

    @staticmethod
    def open(out: str, config: RunConfig) -> RunDir:
        """Create the directory, or continue the one that holds the same config.

        Raises:
            OutputError: not writable, not a directory, or another config's results.
        """
        run = RunDir(Path(out).resolve())
        try:
            run.root.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(f"{out}: cannot be created ({err.strerror})", "choose another --out") from err
        if not os.access(run.root, os.W_OK):
            raise OutputError(f"{out}: not writable", "choose another --out or mend its permissions")
        run._claim(config)
        return run

    def _claim(self, config: RunConfig) -> None:
        text = dump_config(config)
        existing = self.config_path
        if existing.exists():
            changed = _differences(existing.read_text("utf-8"), text)
            if changed:
                raise OutputError(
                    f"{self.root}: holds the results of another config (differs in {', '.join(changed[:5])})",
                    "use a new --out, or the config that made it",
                )
        elif any(p.name not in ("logs", "data") for p in self.root.iterdir()):
            raise OutputError(f"{self.root}: holds files that are no run's", "use an empty --out")
        write_text(existing, text)

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.root / "config.yaml"

    @property
    def corpus(self) -> Path:
        """Clean shards, rejects and vectors."""
        return self.root / "corpus"

    @property
    def vectors(self) -> Path:
        """Embedded texts, one folder per encoder."""
        return self.corpus / "vectors"

    @property
    def metrics(self) -> Path:
        """metrics.json."""
        return self.root / "metrics.json"

    @property
    def model(self) -> Path:
        """The final encoder."""
        return self.root / "model"

    @property
    def log(self) -> Path:
        """Ray's and the stages' log."""
        return self.root / "logs" / "run.log"

    def round(self, number: int) -> Path:
        """Pairs and audit of mining round ``number`` (from 1)."""
        return self.root / "pairs" / f"round={number}"

    def arm(self, name: str, number: int) -> Path:
        """Model of arm ``name`` after round ``number``."""
        return self.root / "arms" / name / f"round={number}"

    def telemetry(self, name: str) -> Path:
        """JSON lines of an arm's steps."""
        return self.root / "telemetry" / f"{name}.jsonl"


def _differences(old: str, new: str) -> list[str]:
    a, b = _flat(yaml.safe_load(old) or {}), _flat(yaml.safe_load(new) or {})
    return sorted(
        k for k in {*a, *b} if a.get(k) != b.get(k) and not k.startswith(tuple(f"{o}." for o in _OPERATIONAL))
    )


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        return {k: v for key, sub in node.items() for k, v in _flat(sub, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): node}
