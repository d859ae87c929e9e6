"""The error tree: every message names what is wrong and ends in the remedy.

Every class survives pickling, because Ray carries exceptions between processes:
an exception whose ``__init__`` takes more than its message is otherwise rebuilt
with the wrong arguments and its text is lost.
"""

from __future__ import annotations

from typing import Any


class XalignError(Exception):
    """Base of every error a user can cause or mend.

    Args:
        problem: what is wrong, naming the file, row or setting.
        remedy: what to do about it, one sentence.
    """

    exit_code = 2

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  remedy: {self.remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.problem, self.remedy))


class ConfigError(XalignError):
    """A setting is unknown, out of range, or contradicts another one."""


class DataError(XalignError):
    """An input file, column or row cannot be used."""


class LanguageError(DataError):
    """A language code is not known."""


class ModelError(XalignError):
    """A model cannot be loaded, or does not fit what is asked of it."""


class OutputError(XalignError):
    """A result cannot be written, or the place holds another run's results."""


class DependencyError(XalignError):
    """An optional package is missing."""


class ResourceError(XalignError):
    """The machine or cluster cannot give what was asked for."""


class TrainingError(XalignError):
    """Training cannot go on: non-finite loss, collapse, divergence."""

    exit_code = 1


class Preempted(XalignError):
    """Stopped on notice (SIGTERM) after a checkpoint; the same command continues."""

    exit_code = 143  # as a shell reports SIGTERM


class StageError(XalignError):
    """A stage failed on the cluster for a reason that is not the user's input."""

    exit_code = 1
