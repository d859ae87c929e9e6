"""What a job reads: refused before anything is sent, where the job would not find it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.arguments import values_of
from jobs.packing import unsent
from xalign_dist.config.load import apply_override, read_yaml
from xalign_dist.encoder.builtin import PREFIX
from xalign_dist.errors import ConfigError
from xalign_dist.evaluation.suite import tables_of

MODELS = ("--model", "encoder.model", "scoring.reference")
SUITES = ("--suite", "evaluation.suite")
OPTIONS = ("--pairs", "--input", "--source", "--target", "--model", "--suite")
"""Those of all verbs that name what is read."""

_RUN = ("corpora", "evaluation.dev_pairs", "evaluation.suite", "encoder.model", "scoring.reference")
SETTINGS: dict[str, tuple[str, ...]] = {
    "run": _RUN,
    "ablate": _RUN,
    "sweep": _RUN,
    "clean": ("corpora",),
    "train": ("encoder.model", "scoring.reference"),
}
"""Settings of its config that name what a verb reads; the other verbs take no config."""


def check_inputs(verb: str, arguments: Sequence[str], folder: Path) -> None:
    """Refuse a job that would not find what it reads: config, texts, models, suites and their tables.

    Absolute paths and URIs are the cluster's, and not looked at here.

    Args:
        verb: of the job.
        arguments: of the verb.
        folder: what is sent along, and what relative paths start from.

    Raises:
        ConfigError: a relative path that is not sent along, or not all of it; a fault in a config or a suite.
    """
    for name, where, path in _named(verb, values_of(verb, arguments), folder):
        if name in MODELS and not _is_folder(folder, path):
            continue
        _check(folder, where, path)
        if name in SUITES and _is_here(path):
            for table in tables_of(folder / path):
                # What a variable stands for is known in the job's environment only.
                if "$" not in table and _is_here(table):
                    _check(folder, path, str(Path(path).parent / table))


def _named(verb: str, given: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str, str]]:
    """(option or setting, how an error calls it, path) of everything that is read."""
    for option in OPTIONS:
        values = given.get(option) or []
        for path in [values] if isinstance(values, str) else values:
            yield option, option, path
    # What `clean` reads is a config or a file of texts.
    config = given.get("config") or given.get("source")
    if not config:
        return
    yield "config", verb, config
    if (folder / config).is_file() and config.endswith((".yaml", ".yml")):
        settings = read_yaml(folder / config)
        for item in given["overrides"] or ():
            apply_override(settings, item)
        for name, path in _paths(settings, SETTINGS[verb]):
            yield name, f"{config}: {name}", path
    space = given.get("space")
    if space:
        yield "space", verb, space
        for name, path in _tried(read_yaml(folder / space) if (folder / space).is_file() else {}):
            yield name, f"{space}: {name}", path


def _paths(settings: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(setting, path) of those that a config gives; its faults are the verb's to explain."""
    corpora = settings.get("corpora") if "corpora" in names else None
    for number, corpus in enumerate(corpora if isinstance(corpora, list) else []):
        for key in ("path", "target_path"):
            if isinstance(corpus, dict) and corpus.get(key):
                yield f"corpora.{number}.{key}", str(corpus[key])
    for section, key in (name.split(".") for name in names if "." in name):
        held = settings.get(section)
        if isinstance(held, dict) and held.get(key):
            yield f"{section}.{key}", str(held[key])


def _tried(space: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(setting, path) of those that trials of a sweep get, one after the other."""
    fixed, varied = space.get("fixed"), space.get("parameters")
    for name in _RUN:
        if isinstance(fixed, dict) and fixed.get(name):
            yield name, str(fixed[name])
        how = varied.get(name) if isinstance(varied, dict) else None
        values = how.get("grid") or how.get("choice") if isinstance(how, dict) else None
        yield from ((name, str(value)) for value in values or ())


def _check(folder: Path, where: str, path: str) -> None:
    missing = unsent(folder, path) if _is_here(path) else None
    if missing is not None:
        why = "data, weights, secrets and what .gitignore names are not sent with it"
        if not (folder / missing).exists():
            why = "there is no such file in this folder, which is sent with it"
        raise ConfigError(
            f"{where}: the job would not find {missing}: {why}",
            "give its whole path, on a file system that every node sees, or a URI",
        )


def _is_here(path: str) -> bool:
    """Whether the job would look for it in its copy of the folder."""
    return "://" not in path and not Path(path).is_absolute()


def _is_folder(folder: Path, model: str) -> bool:
    """Whether a model is a path, and not the name of one on a hub or of one that comes with the code."""
    if model.startswith(PREFIX):
        return False
    return model.startswith((".", "~")) or model.count("/") > 1 or (folder / model).exists()
