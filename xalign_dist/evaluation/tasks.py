"""The task registry: a name in a suite -> how its data is read and how a model is measured.

A new task is a loader, a runner, one line here, its metrics in ``metrics.METRICS`` and its
name in ``suite.TaskName``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xalign_dist.evaluation import tasks_downstream, tasks_sentence, tasks_word
from xalign_dist.evaluation.context import TaskContext
from xalign_dist.evaluation.scores import Score
from xalign_dist.evaluation.suite import TaskSpec
from xalign_dist.evaluation.tables import load_pairs


class TaskKind(NamedTuple):
    """``load`` reads a task's files once; ``run`` measures one model on them."""

    load: Callable[[TaskSpec], Any]
    run: Callable[[Any, TaskContext], list[Score]]


TASKS: dict[str, TaskKind] = {
    "retrieval": TaskKind(load_pairs, tasks_sentence.run_retrieval),
    "pooled_retrieval": TaskKind(tasks_sentence.load_pool, tasks_sentence.run_pooled),
    "similarity": TaskKind(load_pairs, tasks_sentence.run_similarity),
    "geometry": TaskKind(load_pairs, tasks_sentence.run_geometry),
    "lexicon": TaskKind(tasks_word.load_lexicon, tasks_word.run_lexicon),
    "word_alignment": TaskKind(tasks_word.load_word_alignment, tasks_word.run_word_alignment),
    "classification": TaskKind(tasks_downstream.load_classification, tasks_downstream.run_classification),
    "clir": TaskKind(tasks_downstream.load_clir, tasks_downstream.run_clir),
    "mining": TaskKind(tasks_downstream.load_mining, tasks_downstream.run_mining),
}
