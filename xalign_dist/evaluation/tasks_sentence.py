"""Tasks on sentences: retrieval, pooled retrieval, similarity, geometry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.context import TaskContext
from xalign_dist.evaluation.geometry import geometry
from xalign_dist.evaluation.metrics import ALL
from xalign_dist.evaluation.retrieval import RetrievalScores, pooled_retrieval, retrieval
from xalign_dist.evaluation.scores import ItemScores, Score
from xalign_dist.evaluation.similarity import similarity
from xalign_dist.evaluation.suite import TaskSpec
from xalign_dist.evaluation.tables import (
    PairSet,
    choose_languages,
    has_columns,
    language_of,
    load_pairs,
    read_columns,
)
from xalign_dist.records import Int64, text_keys


def run_retrieval(sets: list[PairSet], ctx: TaskContext) -> list[Score]:
    """Accuracy, F1 and xsim error of every language pair, in both directions."""
    out: list[Score] = []
    for pair in sets:
        both = retrieval(
            ctx.embed(pair.src),
            ctx.embed(pair.tgt),
            src_keys=text_keys(pair.src),
            tgt_keys=text_keys(pair.tgt),
        )
        out += _direction(both.forward, pair.src_lang, pair.tgt_lang, pair.clusters_N)
        out += _direction(both.backward, pair.tgt_lang, pair.src_lang, pair.clusters_N)
    return out


def _direction(scores: RetrievalScores, src: str, tgt: str, clusters: Int64) -> list[Score]:
    columns = {"accuracy": scores.hits_N, "f1": scores.f1_N, "xsim": scores.errors_N}
    return [Score.of(name, src, tgt, ItemScores.mean(v, clusters)) for name, v in columns.items()]


@dataclass(frozen=True, slots=True)
class Pool:
    """All sentences of all languages; one group's rows translate each other."""

    lang: list[str]
    text: list[str]
    group: list[str]


def load_pool(task: TaskSpec) -> Pool:
    """Sentences from either form of file (see ``load_pairs``), each (language, text, group) once.

    Groups with a text in one language only are left out: they could not be found.

    Raises:
        DataError: fewer than two languages, or no group in two of them.
    """
    spec = task.data["main"]
    if has_columns(spec, ("lang", "text", "group")) and not has_columns(spec, ("src", "tgt")):
        columns = read_columns(spec, ("lang", "text", "group"))
        rows: Iterable[tuple[str, str, str]] = zip(
            columns["lang"], columns["text"], columns["group"], strict=True
        )
        wanted = choose_languages(columns["lang"], task) | {language_of(task.pivot)}
        rows = [r for r in rows if r[0] in wanted]
    else:
        sets = load_pairs(task.model_copy(update={"limit": None}))
        rows = [
            row
            for s in sets
            for src, tgt, group in zip(s.src, s.tgt, s.group, strict=True)
            for row in ((s.src_lang, src, group), (s.tgt_lang, tgt, group))
        ]
    return _pool(list(dict.fromkeys(rows)), task)


def _pool(rows: list[tuple[str, str, str]], task: TaskSpec) -> Pool:
    languages: dict[str, set[str]] = {}
    for lang, _, group in rows:
        languages.setdefault(group, set()).add(lang)
    count: dict[str, int] = {}
    chosen = []
    for lang, text, group in rows:
        if len(languages[group]) > 1 and (task.limit is None or count.get(lang, 0) < task.limit):
            count[lang] = count.get(lang, 0) + 1
            chosen.append((lang, text, group))
    # A limit may have cut off the partner of a sentence.
    left: dict[str, set[str]] = {}
    for lang, _, group in chosen:
        left.setdefault(group, set()).add(lang)
    chosen = [r for r in chosen if len(left[r[2]]) > 1]
    if not chosen:
        raise DataError(
            f"task {task.key}: no group has sentences in two languages",
            "check the column that is mapped to group",
        )
    lang_N, text_N, group_N = (list(c) for c in zip(*chosen, strict=True))
    return Pool(lang_N, text_N, group_N)


def run_pooled(pool: Pool, ctx: TaskContext) -> list[Score]:
    """Accuracy and language bias of the queries of each language against the pool of all."""
    scores = pooled_retrieval(ctx.embed(pool.text), pool.lang, pool.group, keys_N=text_keys(pool.text))
    clusters_N = text_keys(pool.group)
    out = []
    for lang in sorted(set(pool.lang)):
        rows = scores.rows_of(lang)
        for name, values in (("accuracy", scores.hits_N), ("language_bias", scores.own_language_N)):
            out.append(Score.of(name, lang, ALL, ItemScores.mean(values[rows], clusters_N[rows])))
    return out


def run_similarity(sets: list[PairSet], ctx: TaskContext) -> list[Score]:
    """Mean cosine of pairs, of mismatches, and the gap, of every language pair."""
    out = []
    for pair in sets:
        scores = similarity(
            ctx.embed(pair.src),
            ctx.embed(pair.tgt),
            src_keys=text_keys(pair.src),
            tgt_keys=text_keys(pair.tgt),
        )
        columns = {"pairs": scores.pairs_N, "nonpairs": scores.nonpairs_N, "gap": scores.gap_N}
        for name, values in columns.items():
            items = ItemScores.mean(values, pair.clusters_N)
            out.append(Score.of(name, pair.src_lang, pair.tgt_lang, items))
    return out


def run_geometry(sets: list[PairSet], ctx: TaskContext) -> list[Score]:
    """Shape of the space, of every language pair; a measure that is not defined there has no row."""
    out = []
    for pair in sets:
        scores = geometry(ctx.embed(pair.src), ctx.embed(pair.tgt), pair.clusters_N, seed=ctx.seed)
        sampled_K = pair.clusters_N[scores.sampled_K]
        rows = {
            "alignment": (float(scores.alignment_N.mean()), scores.alignment_N, pair.clusters_N),
            "uniformity": (scores.uniformity, scores.uniformity_K, sampled_K),
            "hubness": (scores.hubness, scores.hubness_N, pair.clusters_N),
            "isometry": (scores.isometry, scores.isometry_K, sampled_K),
        }
        if len(scores.probe_K):
            rows["language_probe"] = (float(scores.probe_K.mean()), scores.probe_K, sampled_K)
        for name, (value, values, clusters) in rows.items():
            if np.isfinite(value):
                items = ItemScores.mean(values, clusters) if np.isfinite(values).all() else None
                out.append(Score(name, pair.src_lang, pair.tgt_lang, value, len(values), items))
    return out
