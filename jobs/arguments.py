"""What the arguments of a job name: its configs, its run directory, its options."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from xalign_dist.cli import command_of
from xalign_dist.errors import ConfigError
from xalign_dist.pipeline.rundir import ON_STORES, is_uri, local_only


def out_of(arguments: Sequence[str]) -> str:
    """The value of --out, written either way; empty: there is none."""
    for this, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if this == "--out":
            return after
        if this.startswith("--out="):
            return this.removeprefix("--out=")
    return ""


def options_of(verb: str) -> set[str]:
    """Every option of ``verb``, as typed: ``--out``."""
    return {name for option in command_of(verb).params for name in (*option.opts, *option.secondary_opts)}


def values_of(verb: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What ``arguments`` give to ``verb``: by option (``--pairs``), what is none by its name (``config``).

    What is missing has its default, or is None; nothing is an error here.
    """
    command = command_of(verb)
    # Resilient: faults are the verb's own to explain.
    given = command.make_context(verb, list(arguments), resilient_parsing=True).params
    named = {p.name: p.opts[0] if p.param_type_name == "option" else p.name for p in command.params}
    return {name: given.get(key) for key, name in named.items()}


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


def check_out(verb: str, out: str) -> None:
    """Refuse a run directory that would go with the job's copy of the folder, or that ``verb`` cannot write.

    Raises:
        ConfigError: none, or a relative one.
        OutputError: a URI, and ``verb`` writes to file systems only.
    """
    if not out:
        raise ConfigError("no --out", "name the run directory: --out /shared/runs/NAME")
    if verb not in ON_STORES:
        local_only(out, verb)
    if not is_uri(out) and not Path(out).is_absolute():
        either = ", or a URI" if verb in ON_STORES else ""
        raise ConfigError(
            f"--out {out} is relative: the results would lie in the job's copy of this folder and go with it",
            f"name a folder that every node sees by its whole path, --out /shared/runs/NAME{either}",
        )
