"""Several models over one suite: every value with its interval, every item kept for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from xalign_dist.config.method import EvaluationConfig
from xalign_dist.errors import ConfigError, DataError
from xalign_dist.evaluation.context import MineFn, TaskContext, TokenStatesFn
from xalign_dist.evaluation.embedding import CachedEmbedder
from xalign_dist.evaluation.metrics import ALL, counts_for
from xalign_dist.evaluation.miner import system_miner
from xalign_dist.evaluation.scores import ItemScores, Score
from xalign_dist.evaluation.significance import bootstrap_interval
from xalign_dist.evaluation.suite import Suite, TaskSpec
from xalign_dist.evaluation.tasks import TASKS
from xalign_dist.records import EmbedFn, Metric

ItemKey = tuple[str, str, str, str]
"""(model, task, metric, language pair as ``src-tgt``)."""


@dataclass(slots=True)
class EvaluationResult:
    """What :func:`evaluate` found.

    Attributes:
        metrics: one row per model, task, metric and language pair, and the macro averages.
        items: per-item sums behind each row of a language pair that can be tested.
        groups: per task, the languages behind ``high`` and ``low``.
        notes: what was left out, and why; to be shown with the metrics.
    """

    metrics: list[Metric] = field(default_factory=list)
    items: dict[ItemKey, ItemScores] = field(default_factory=dict)
    groups: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def merged(results: Iterable[EvaluationResult]) -> EvaluationResult:
        """Evaluations of different models on one suite, side by side."""
        whole = EvaluationResult()
        for one in results:
            whole.metrics += one.metrics
            whole.items |= one.items
            whole.groups |= one.groups
            whole.notes += one.notes
        return whole

    def parts(self, model: str, task: str, metric: str, lang: str) -> list[ItemScores]:
        """Items of one row: a language pair's own, or for ``all``, ``high``, ``low`` those averaged.

        Empty where the metric has no items (nothing to test) or the row does not exist.
        """
        if lang not in (ALL, *self.groups.get(task, {})):
            key = (model, task, metric, lang)
            return [self.items[key]] if key in self.items else []
        groups = self.groups[task]
        return [
            items
            for (m, t, name, pair), items in sorted(self.items.items(), key=lambda kv: kv[0])
            if (m, t, name) == (model, task, metric) and _pair_counts(lang, pair, groups)
        ]


def _pair_counts(name: str, pair: str, groups: Mapping[str, frozenset[str]]) -> bool:
    src_lang, _, tgt_lang = pair.partition("-")
    return counts_for(name, src_lang, tgt_lang, groups)


def evaluate(
    models: Mapping[str, EmbedFn],
    suite: Suite,
    cfg: EvaluationConfig,
    seed: int,
    round_: int = 0,
    token_states: Mapping[str, TokenStatesFn] | None = None,
    mine: MineFn | None = None,
) -> EvaluationResult:
    """Measure every model on every task; each text is embedded once per model.

    Args:
        models: name -> texts to vectors. Widths may differ between models.
        suite: validated tasks (:func:`~xalign_dist.evaluation.suite.load_suite`).
        cfg: resamples and width of the intervals.
        seed: of intervals, samples and folds; goes into each row.
        round_: mining round, goes into each row.
        token_states: model -> states of words, for word alignment and lexicons in contexts. A model
            without is left out of that task with a note.
        mine: how the mining task finds pairs. None: the system's own miner.

    Raises:
        ConfigError: no models; word alignment without token states.
        DataError: a file, column or language of the suite is missing.
        ModelError: NaN, wrong shapes.
    """
    _check(models, suite, token_states)
    data = [(task, TASKS[task.task].load(task)) for task in suite.tasks]
    result = EvaluationResult(groups={t.key: suite.groups(t) for t in suite.tasks})
    for model, embed in models.items():
        cached = CachedEmbedder(model, embed)
        for task, loaded in data:
            states = (token_states or {}).get(model)
            if task.needs_words and states is None:
                result.notes.append(f"{task.key}: {model} gives no states of single words; left out")
                continue
            context = TaskContext(cached, task, seed, states, mine or system_miner(seed=seed))
            scores = TASKS[task.task].run(loaded, context)
            scores = [s for s in scores if task.metrics is None or s.metric in task.metrics]
            _record(result, model, task, scores, cfg, seed, round_)
    return result


def _check(
    models: Mapping[str, EmbedFn], suite: Suite, token_states: Mapping[str, TokenStatesFn] | None
) -> None:
    asking = [t.key for t in suite.tasks if t.needs_words]
    if not models:
        raise ConfigError("evaluation of no model", "name at least one model")
    if asking and not set(token_states or {}) & set(models):
        raise ConfigError(
            f"the suite has {asking[0]}, and no model gives states of single words",
            "remove the task (lexicon: its contexts), or evaluate a transformer encoder",
        )


def _record(
    result: EvaluationResult,
    model: str,
    task: TaskSpec,
    scores: list[Score],
    cfg: EvaluationConfig,
    seed: int,
    round_: int,
) -> None:
    def row(metric: str, src: str, tgt: str, value: float, n: int, parts: list[ItemScores]) -> Metric:
        low, high = _interval(parts, cfg, seed)
        return Metric(model, round_, task.key, metric, src, tgt, value, low, high, n, seed)

    for s in scores:
        if not np.isfinite(s.value):
            result.notes.append(f"{task.key}: {s.metric} of {model} {s.src_lang}-{s.tgt_lang} is not defined")
            continue
        if s.items is not None:
            result.items[model, task.key, s.metric, f"{s.src_lang}-{s.tgt_lang}"] = s.items
        parts = [s.items] if s.items is not None else []
        result.metrics.append(row(s.metric, s.src_lang, s.tgt_lang, s.value, s.n, parts))
    groups = result.groups[task.key]
    for name in (ALL, *groups):
        for metric in dict.fromkeys(s.metric for s in scores):
            chosen = [
                s
                for s in scores
                if s.metric == metric
                and np.isfinite(s.value)
                and counts_for(name, s.src_lang, s.tgt_lang, groups)
            ]
            if chosen:
                parts = [s.items for s in chosen if s.items is not None]
                value = float(np.mean([s.value for s in chosen]))
                n = sum(s.n for s in chosen)
                result.metrics.append(row(metric, name, name, value, n, parts))


def _interval(parts: list[ItemScores], cfg: EvaluationConfig, seed: int) -> tuple[float | None, float | None]:
    if not parts or sum(map(len, parts)) < 2:
        return None, None
    try:
        return bootstrap_interval(parts, resamples=cfg.bootstrap, confidence=cfg.confidence, seed=seed)
    except DataError:
        return None, None
