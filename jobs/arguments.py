"""What the arguments of a job name: its configs, its run directory, its corpora."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.packing import sent
from xalign_dist.cli import options_of
from xalign_dist.config.load import read_yaml
from xalign_dist.errors import ConfigError


def out_of(arguments: Sequence[str]) -> str:
    """The value of --out, written either way; empty: there is none."""
    for this, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if this == "--out":
            return after
        if this.startswith("--out="):
            return this.removeprefix("--out=")
    return ""


def is_yaml(path: Path) -> bool:
    """Whether it is a config: a YAML file."""
    return path.suffix in {".yaml", ".yml"} and path.is_file()


def as_sent(argument: str, folder: Path) -> str:
    """A config's path as the job will see it: the job gets a copy of ``folder`` and nothing else.

    Raises:
        ConfigError: it lies outside.
    """
    path = Path(argument)
    if not is_yaml(path):
        return argument
    try:
        return str(path.resolve().relative_to(folder.resolve()))
    except ValueError:
        raise ConfigError(
            f"{argument} lies outside the current folder, {folder}, so it is not sent with the job",
            "change into a folder that holds it, or copy it here",
        ) from None


def check_options(verb: str, arguments: Iterable[str], own: Iterable[str]) -> None:
    """Say a slip of the pen here and not after the job has started.

    Args:
        verb: of the job.
        arguments: of the verb.
        own: options of ``submit``, which may be meant as well.

    Raises:
        ConfigError: an option that the verb does not have.
    """
    known = options_of(verb)
    for name in (a.partition("=")[0] for a in arguments if a.startswith("--")):
        if name not in known:
            near = difflib.get_close_matches(name, sorted({*known, *own}), n=1, cutoff=0.6)
            raise ConfigError(
                f"neither submit nor {verb} has an option {name}",
                f"did you mean {near[0]}?" if near else f"`xalign {verb} --help` lists them",
            )


def check_out(out: str) -> None:
    """Refuse a run directory that would go with the job's copy of the folder.

    Raises:
        ConfigError: none, or a relative one.
    """
    if not out:
        raise ConfigError("no --out", "name the run directory: --out /shared/runs/NAME")
    if "://" not in out and not Path(out).is_absolute():
        raise ConfigError(
            f"--out {out} is relative: the results would lie in the job's copy of this folder and go with it",
            "name a folder that every node sees by its whole path, --out /shared/runs/NAME, or a URI",
        )


def check_corpora(folder: Path, configs: Iterable[str]) -> None:
    """Refuse ``configs`` (in ``folder``) whose corpora the job would not find.

    Raises:
        ConfigError: a relative path that is not sent along.
    """
    for config in configs:
        for path in _corpora(read_yaml(folder / config)):
            if "://" not in path and not Path(path).is_absolute() and not sent(folder, path):
                raise ConfigError(
                    f"{config}: the job would not find {path}: data is not sent with it",
                    "give its whole path, on a file system that every node sees, or a URI",
                )


def _corpora(config: Mapping[str, Any]) -> list[str]:
    given = config.get("corpora")
    corpora = [c for c in given if isinstance(c, dict)] if isinstance(given, list) else []
    return [str(c[key]) for c in corpora for key in ("path", "target_path") if c.get(key)]
