"""What a task is given beside its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from xalign_dist.evaluation.embedding import CachedEmbedder
from xalign_dist.evaluation.scores import Float64
from xalign_dist.evaluation.suite import TaskSpec
from xalign_dist.records import Float32, Int64


class TokenStatesFn(Protocol):
    """Contextual states of the words of sentences that are split into words already."""

    def __call__(self, sentences: Sequence[Sequence[str]]) -> Sequence[Float32]:
        """One float32 ``[T, D]`` per sentence, one row per word (mean over its subwords)."""
        ...


MineFn = Callable[[Float32, Float32], tuple[Int64, Int64, Float64]]
"""(source vectors ``[N, D]``, target vectors ``[M, D]``) -> source rows, target rows, confidence."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """One model on one task.

    Attributes:
        embed: texts -> unit vectors, remembered per model.
        task: the suite's entry.
        seed: of sampling and of cross-validation folds.
        token_states: states of words, for word alignment. None: the model has none.
        mine: how the mining task finds pairs.
    """

    embed: CachedEmbedder
    task: TaskSpec
    seed: int
    token_states: TokenStatesFn | None
    mine: MineFn
