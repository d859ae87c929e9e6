"""Is the difference between two models more than chance: the table of paired tests."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from xalign_dist.config.method import EvaluationConfig
from xalign_dist.errors import ConfigError
from xalign_dist.evaluation.metrics import GROUP_NAMES, lower_is_better
from xalign_dist.evaluation.run import EvaluationResult
from xalign_dist.evaluation.scores import MIN_TEST_ITEMS, ItemScores
from xalign_dist.evaluation.seeds import crossed_bootstrap
from xalign_dist.evaluation.significance import holm, paired_interval, paired_permutation, same_items

FINEST_PER_ROW = 40


@dataclass(frozen=True, slots=True)
class Comparison:
    """Our model against one baseline on one row of the table.

    ``difference`` is ours minus baseline as measured; ``better`` tells which sign is good.
    ``p`` and ``p_holm`` are None where no test was made, and ``note`` says why. ``n`` counts
    independent clusters of items. ``lang`` is ``src-tgt``, or ``all``, ``high``, ``low``.
    """

    task: str
    metric: str
    lang: str
    model: str
    against: str
    ours: float
    baseline: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    n: int
    better: bool
    note: str = ""

    def significant(self, level: float = 0.05) -> bool:
        """Whether the corrected p-value is below ``level``."""
        return self.p_holm is not None and self.p_holm < level

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return asdict(self)


def compare(
    result: EvaluationResult,
    ours: str,
    baselines: Sequence[str],
    cfg: EvaluationConfig | None = None,
    seed: int = 0,
    only: Collection[tuple[str, str]] | None = None,
) -> list[Comparison]:
    """Paired permutation test of every row that both models have, Holm-corrected.

    The macro averages (``all``, ``high``, ``low``) are the headline and are corrected among
    themselves; rows of single language pairs likewise: a table of 200 details does not take the
    power from the handful of claims. Fewer than ``MIN_TEST_ITEMS`` clusters: not tested.

    Args:
        result: of :func:`~xalign_dist.evaluation.run.evaluate`.
        ours: name of our model.
        baselines: names of the others.
        cfg: resamples, permutations, width. None: the defaults.
        seed: of resampling.
        only: the (task, metric) rows that are tested and corrected for. None: all.

    Raises:
        ConfigError: a model that was not evaluated.
    """
    return compare_seeds([result], ours, baselines, cfg, seed, only)


def compare_seeds(
    results: Sequence[EvaluationResult],
    ours: str,
    baselines: Sequence[str],
    cfg: EvaluationConfig | None = None,
    seed: int = 0,
    only: Collection[tuple[str, str]] | None = None,
) -> list[Comparison]:
    """:func:`compare` over runs with several training seeds, which are a level of their own.

    One result: permutation test over items. Several: the mean difference over seeds, with
    interval and p from the bootstrap that crosses seeds and items. A baseline without
    training has the same items in every result.
    """
    cfg = cfg or EvaluationConfig()
    _check_models(results, ours, baselines)
    named = [(r, against) for against in baselines for r in _rows(results, ours, against, only)]
    out = []
    for macro in (True, False):
        family = [(row, against) for row, against in named if (row[2] in GROUP_NAMES) == macro]
        # Smallest corrected p that can come out: half a customary level, whatever the table's size.
        finest = max(cfg.permutations, FINEST_PER_ROW * len(family))
        rows = [_compare(results, *row, ours, against, cfg, seed, finest) for row, against in family]
        out += _corrected(rows)
    return out


def _check_models(results: Sequence[EvaluationResult], ours: str, baselines: Sequence[str]) -> None:
    for result in results:
        known = {m.model for m in result.metrics}
        missing = [m for m in (ours, *baselines) if m not in known]
        if missing:
            raise ConfigError(
                f"comparison with {', '.join(missing)}, which was not evaluated",
                f"use one of: {', '.join(sorted(known))}",
            )


def _rows(
    results: Sequence[EvaluationResult],
    ours: str,
    against: str,
    only: Collection[tuple[str, str]] | None,
) -> list[tuple[str, str, str]]:
    values = [_values(r) for r in results]
    first = [
        (task, metric, lang)
        for model, task, metric, lang in values[0]
        if model == ours and (only is None or (task, metric) in only)
    ]
    return [k for k in first if all((m, *k) in v for v in values for m in (ours, against))]


def _values(result: EvaluationResult) -> dict[tuple[str, str, str, str], float]:
    return {(m.model, m.task, m.metric, _lang(m.src_lang, m.tgt_lang)): m.value for m in result.metrics}


def _lang(src_lang: str, tgt_lang: str) -> str:
    return src_lang if src_lang in GROUP_NAMES else f"{src_lang}-{tgt_lang}"


def _compare(
    results: Sequence[EvaluationResult],
    task: str,
    metric: str,
    lang: str,
    ours: str,
    against: str,
    cfg: EvaluationConfig,
    seed: int,
    finest: int,
) -> Comparison:
    values = [_values(r) for r in results]
    mine = float(np.mean([v[ours, task, metric, lang] for v in values]))
    theirs = float(np.mean([v[against, task, metric, lang] for v in values]))
    a = [r.parts(ours, task, metric, lang) for r in results]
    b = [r.parts(against, task, metric, lang) for r in results]
    clusters = _cluster_count(a[0])
    better = mine < theirs if lower_is_better(task, metric) else mine > theirs
    row = Comparison(
        task,
        metric,
        lang,
        ours,
        against,
        mine,
        theirs,
        mine - theirs,
        None,
        None,
        None,
        None,
        clusters,
        better,
    )
    if not clusters:
        return replace(row, note="not tested: the metric is not made of items")
    if not all(same_items(one, two) for one, two in zip(a, b, strict=True)):
        # E.g. the precision of mining where one of them mined nothing in a language.
        return replace(row, note="not tested: undefined for one of the two on a language pair or an item")
    if clusters < MIN_TEST_ITEMS:
        return replace(row, note=f"not tested: {clusters} items, {MIN_TEST_ITEMS} are needed")
    if len(results) > 1:
        _, low, high, p = crossed_bootstrap(
            a, b, resamples=max(cfg.bootstrap, finest), confidence=cfg.confidence, seed=seed
        )
        return replace(row, low=low, high=high, p=p)
    low, high = paired_interval(a[0], b[0], resamples=cfg.bootstrap, confidence=cfg.confidence, seed=seed)
    p = paired_permutation(a[0], b[0], permutations=cfg.permutations, seed=seed, finest=finest)
    return replace(row, low=low, high=high, p=p)


def _cluster_count(parts: Sequence[ItemScores]) -> int:
    return len(np.unique(np.concatenate([p.clusters_N for p in parts]))) if parts else 0


def _corrected(rows: list[Comparison]) -> list[Comparison]:
    tested = [i for i, r in enumerate(rows) if r.p is not None]
    corrected = holm([p for r in rows if (p := r.p) is not None])
    out = list(rows)
    for i, p in zip(tested, corrected, strict=True):
        out[i] = replace(rows[i], p_holm=float(p))
    return out
