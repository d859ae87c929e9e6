"""The suite: which tasks on which files, validated before any text is embedded.

A suite is YAML::

    version: 1
    high: [deu, fra]
    low: [gle, cym]
    tasks:
      - task: retrieval                       # a name of TASK_NAMES
        name: tatoeba                         # optional: the task is then retrieval:tatoeba
        data: ${XALIGN_DATA}/eval_tatoeba.parquet
        columns: {tgt_lang: lang, src: eng, tgt: text}
        values: {src_lang: eng}               # a column that the file does not have
        filter: {split: test}                 # keep rows with this value (or one of a list)
        exclude: {label: [nw]}                # drop rows with one of these
        languages: [deu, gle]                 # English side aside; default: all in the file
        limit: 1000                           # items per language pair; default: all
      - task: clir
        data:
          queries: {path: q.parquet, columns: {text: question}}
          documents: d.parquet

Paths are relative to the suite's file, or URIs; ``$VARIABLES`` are expanded.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from xalign_dist.config.base import Section
from xalign_dist.config.load import read_yaml
from xalign_dist.corpora.languages import normalize_language
from xalign_dist.errors import ConfigError
from xalign_dist.evaluation.metrics import METRICS
from xalign_dist.records import ENGLISH

TaskName = Literal[
    "retrieval",
    "pooled_retrieval",
    "lexicon",
    "similarity",
    "mining",
    "classification",
    "clir",
    "word_alignment",
    "geometry",
]
Cell = str | int | float | bool

ROLES: dict[str, tuple[str, ...]] = {"mining": ("sentences", "gold"), "clir": ("queries", "documents")}
MAIN, SENTENCES = "main", "sentences"
_TABLE_KEYS = ("columns", "values", "filter", "exclude")


class TableSpec(Section):
    """One Parquet file, and how its columns become ours."""

    path: str = Field(description="Parquet file, folder or URI; $VARIABLES are expanded.")
    columns: dict[str, str | list[str]] = Field(
        default_factory=dict, description="Our column -> the file's; a list is joined (group keys)."
    )
    values: dict[str, str] = Field(default_factory=dict, description="Our column -> one value for all rows.")
    filter: dict[str, Cell | list[Cell]] = Field(
        default_factory=dict, description="The file's column -> value(s) that a row must have."
    )
    exclude: dict[str, Cell | list[Cell]] = Field(
        default_factory=dict, description="The file's column -> value(s) that a row must not have."
    )


class TaskSpec(Section):
    """One task of a suite."""

    task: TaskName = Field(description="What is measured.")
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]+$", description="Tells two tasks of one kind apart: `kind:name`."
    )
    data: dict[str, TableSpec] = Field(description="A path, or a table per role.")
    languages: list[str] | None = Field(None, description="Languages beside English. None: all.")
    limit: int | None = Field(None, ge=2, description="Items per language pair. None: all.")
    metrics: list[str] | None = Field(None, description="Metrics reported. None: all of the task.")
    pivot: str = Field(ENGLISH, description="Language that the others are paired with or trained on.")
    shots: list[int] = Field(
        default_factory=list,
        description="classification: examples per class in the target language added to the training"
        " data, one accuracy@N for each.",
    )
    contexts: int | None = Field(
        None,
        ge=1,
        description="lexicon: a word's vector is the mean of its states in up to so many of"
        " `data.sentences`. None: each word is embedded alone.",
    )
    recall: list[int] = Field(
        default=[10], min_length=1, description="clir: the k of recall@k, one figure for each."
    )
    high: list[str] | None = Field(None, description="Languages averaged as `high`. None: the suite's.")
    low: list[str] | None = Field(None, description="Languages averaged as `low`. None: the suite's.")

    @model_validator(mode="before")
    @classmethod
    def _tables(cls, raw: Any) -> Any:
        """A lone path becomes the main table, with the table's settings taken from the task."""
        if not isinstance(raw, dict) or "data" not in raw:
            return raw
        raw, data = dict(raw), raw["data"]
        if isinstance(data, str):
            data = {"path": data}
        if isinstance(data, dict) and "path" in data:
            shared = {k: raw.pop(k) for k in _TABLE_KEYS if k in raw}
            raw["data"] = {MAIN: {**shared, **data}}
        elif isinstance(data, dict):
            raw["data"] = {k: {"path": v} if isinstance(v, str) else v for k, v in data.items()}
        return raw

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for setting, task in (("shots", "classification"), ("contexts", "lexicon"), ("recall", "clir")):
            usual = TaskSpec.model_fields[setting].get_default(call_default_factory=True)
            if self.task != task and getattr(self, setting) != usual:
                raise ValueError(f"{setting} is a setting of {task}, not of {self.task}")
        roles = (MAIN, SENTENCES) if self.contexts else ROLES.get(self.task, (MAIN,))
        if set(self.data) != set(roles):
            wanted = f"data.{' and data.'.join(roles)}" if roles != (MAIN,) else "one path"
            raise ValueError(f"{self.task} needs {wanted}, got {', '.join(self.data) or 'nothing'}")
        known = self._known_metrics()
        unknown = [m for m in self.metrics or () if m not in known]
        if unknown:
            raise ValueError(f"{self.task} has no metric {', '.join(unknown)}; it has {', '.join(known)}")
        if min(self.recall) < 1:
            raise ValueError(f"recall: {min(self.recall)} is no rank; ranks begin at 1")
        return self

    def _known_metrics(self) -> tuple[str, ...]:
        usual = [m for m in METRICS[self.task] if "recall@" not in m]
        if self.task == "clir":
            usual += [f"{prefix}recall@{k}" for prefix in ("", "pooled_") for k in self.recall]
        few = [f"accuracy@{k}" for k in self.shots]
        return (*usual, *few, *(["covered"] if self.contexts else []))

    @property
    def needs_words(self) -> bool:
        """Whether the task asks a model for states of single words."""
        return self.task == "word_alignment" or self.contexts is not None

    @property
    def key(self) -> str:
        """The task's name in metrics.json."""
        return f"{self.task}:{self.name}" if self.name else self.task


class Suite(Section):
    """All tasks, with the languages behind the macro averages."""

    version: Literal[1] = Field(1, description="Of this format.")
    tasks: list[TaskSpec] = Field(min_length=1, description="What is measured.")
    high: list[str] = Field(default_factory=list, description="Languages averaged as `high`.")
    low: list[str] = Field(default_factory=list, description="Languages averaged as `low`.")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        keys = [t.key for t in self.tasks]
        twice = sorted({k for k in keys if keys.count(k) > 1})
        if twice:
            raise ValueError(f"two tasks are called {', '.join(twice)}; give each its own `name`")
        return self

    def groups(self, task: TaskSpec) -> dict[str, frozenset[str]]:
        """The languages of ``high`` and ``low`` for a task, ISO 639-3; empty groups left out."""
        named = {
            "high": self.high if task.high is None else task.high,
            "low": self.low if task.low is None else task.low,
        }
        return {k: frozenset(map(normalize_language, v)) for k, v in named.items() if v}


def load_suite(path: str | Path) -> Suite:
    """Read and validate a suite file; paths in it become absolute.

    Raises:
        ConfigError: unreadable, unknown setting (with the nearest name), unknown task or metric,
            wrong roles, an environment variable that is not set.
    """
    return parse_suite(read_yaml(path), origin=str(path), folder=Path(path).parent)


def tables_of(path: str | Path) -> list[str]:
    """The tables that a suite file names, as written there: relative, with their variables.

    Raises:
        ConfigError: as of :func:`load_suite`, but for variables.
    """
    suite = _validated(read_yaml(path), str(path))
    return [table.path for task in suite.tasks for table in task.data.values()]


def parse_suite(data: dict[str, Any], origin: str = "suite", folder: Path | None = None) -> Suite:
    """Validate a plain mapping; ``folder`` is what relative paths are relative to."""
    suite = _validated(data, origin)
    tasks = [
        task.model_copy(
            update={
                "data": {
                    role: table.model_copy(update={"path": _resolve(table.path, folder, origin)})
                    for role, table in task.data.items()
                }
            }
        )
        for task in suite.tasks
    ]
    return suite.model_copy(update={"tasks": tasks})


def _validated(data: dict[str, Any], origin: str) -> Suite:
    try:
        return Suite.model_validate(data)
    except ValidationError as err:
        raise _explain(err, origin) from None


def _resolve(path: str, folder: Path | None, origin: str) -> str:
    full = os.path.expandvars(path)
    missing = re.search(r"\$\{?(\w+)", full)
    if missing:
        raise ConfigError(
            f"{origin}: {path}: environment variable {missing[1]} is not set", f"export {missing[1]}=..."
        )
    if "://" in full or folder is None or Path(full).is_absolute():
        return full
    return str((folder / full).resolve())


def _explain(err: ValidationError, origin: str) -> ConfigError:
    lines, remedies = [], []
    for fault in err.errors():
        where = ".".join(str(p) for p in fault["loc"]) or "suite"
        if fault["type"] == "extra_forbidden":
            name = str(fault["loc"][-1])
            fields = [*Suite.model_fields, *TaskSpec.model_fields, *TableSpec.model_fields]
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.4)
            lines.append(f"{origin}: unknown setting {where}")
            remedies.append(f"did you mean {near[0]}?" if near else f"remove {name}")
        else:
            lines.append(f"{origin}: {where}: {fault['msg'].removeprefix('Value error, ')}")
            remedies.append(f"change {where}")
    return ConfigError("\n".join(lines), "; ".join(dict.fromkeys(remedies)))
