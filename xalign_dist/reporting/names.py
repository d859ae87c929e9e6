"""What models, tasks and languages are called in front of a person, and the order they come in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import langcodes
from langcodes.tag_parser import LanguageTagError

from xalign_dist.evaluation.metrics import ALL, GROUP_NAMES, METRICS, base_task
from xalign_dist.records import ENGLISH

INITIAL, STATIC, INFONCE, ADAPTIVE = "initial", "static", "infonce", "adaptive"

MODEL_ORDER = (INITIAL, STATIC, INFONCE, ADAPTIVE)
_MODELS = {
    INITIAL: "Before training",
    STATIC: "Static vectors",
    "ppmi": "PPMI vectors",
    INFONCE: "Fixed InfoNCE",
    ADAPTIVE: "Adaptive",
}

# The same names inside a heading.
_AGAINST = {
    **_MODELS,
    INITIAL: "before training",
    INFONCE: "fixed InfoNCE",
    STATIC: "static vectors",
    "ppmi": "PPMI vectors",
}

GROUP_LABELS = {ALL: "All languages", "high": "High-resource", "low": "Low-resource"}

_TASKS = {
    "retrieval": "Retrieval",
    "pooled_retrieval": "Pooled retrieval",
    "lexicon": "Lexicon",
    "similarity": "Similarity",
    "word_alignment": "Word alignment",
    "mining": "Mining",
    "audit": "Noise audit",
    "classification": "Zero-shot classification",
    "clir": "Cross-lingual search",
    "geometry": "Geometry",
}
_METRICS = {
    "f1": "F1",
    "xsim": "xsim error",
    "p@1": "P@1",
    "p@5": "P@5",
    "mrr": "MRR",
    "aer": "AER",
    "mrr@10": "MRR@10",
    "ndcg@10": "nDCG@10",
    "pooled_mrr@10": "pooled MRR@10",
    "pooled_ndcg@10": "pooled nDCG@10",
}

# The metric that stands for its task where there is room for one.
HEADLINE = {
    "retrieval": "accuracy",
    "pooled_retrieval": "accuracy",
    "lexicon": "p@1",
    "similarity": "gap",
    "word_alignment": "f1",
    "classification": "accuracy",
    "clir": "mrr@10",
}
# Cosines and shapes: no shares, shown as decimals.
_DECIMAL_TASKS = ("similarity", "geometry")
# These describe a space; more or less of them is no gain or loss.
_DESCRIPTIVE = {("similarity", "pairs"), ("similarity", "nonpairs"), ("pooled_retrieval", "language_bias")}
# Tasks about the corpus, not about a model.
CORPUS_TASKS = ("mining", "audit")


def model_label(model: str) -> str:
    """A model's name for a person; a path stays what it is."""
    return _MODELS.get(model, model)


def against_label(model: str) -> str:
    """``vs. fixed InfoNCE``: a baseline in the heading of a column of differences."""
    return f"vs. {_AGAINST.get(model, model)}"


def task_label(task: str, metric: str | None = None) -> str:
    """``retrieval:ntrex``, ``f1`` -> ``Retrieval F1 (ntrex)``."""
    base, _, name = task.partition(":")
    parts = [_TASKS.get(base, base.replace("_", " "))]
    if metric is not None:
        parts.append(_METRICS.get(metric, metric.replace("_", " ")))
    if name:
        parts.append(f"({name})")
    return " ".join(parts)


def task_order(task: str, metric: str) -> tuple[int, str, int, str]:
    """Sort key: tasks and metrics as metrics.py lists them, named tasks after the plain one."""
    base = base_task(task)
    tasks, metrics = list(METRICS), list(METRICS.get(base, ()))
    return (
        tasks.index(base) if base in tasks else len(tasks),
        task,
        metrics.index(metric) if metric in metrics else len(metrics),
        re.sub(r"\d+", lambda m: m[0].zfill(6), metric),  # @4 before @16
    )


def model_order(model: str) -> tuple[int, str]:
    """Sort key: baselines first, ours last of the known ones, others after."""
    known = model in MODEL_ORDER
    return (MODEL_ORDER.index(model) if known else len(MODEL_ORDER), model)


def model_style(model: str, others: Sequence[str] = ()) -> str:
    """The colour class of a model; ``others`` are the unknown ones, in order."""
    if model in MODEL_ORDER:
        return f"m-{model}"
    return f"m-x{(list(others).index(model) if model in others else 0) % 4}"


def group_label(group: str) -> str:
    """``high`` -> ``High-resource``; ``other``: not trained on."""
    return GROUP_LABELS.get(group, "Not trained on")


def is_judged(task: str, metric: str) -> bool:
    """Whether more (or for errors less) of a metric is better; others only describe."""
    base = base_task(task)
    return base != "geometry" and (base, metric) not in _DESCRIPTIVE


def is_share(task: str) -> bool:
    """Whether a task's values are shares in [0, 1], shown as percent."""
    return base_task(task) not in _DECIMAL_TASKS


def language_key(src_lang: str, tgt_lang: str) -> str:
    """Under which name a language pair is shown: its language other than English, else both.

    Both directions of a pair have one key; rows against a pool (``tgt_lang`` all) go by the source.
    """
    if src_lang == tgt_lang or tgt_lang in GROUP_NAMES:
        return src_lang
    if ENGLISH in (src_lang, tgt_lang):
        return tgt_lang if src_lang == ENGLISH else src_lang
    return "-".join(sorted((src_lang, tgt_lang)))


@lru_cache(maxsize=4096)
def language_name(key: str) -> str:
    """English name of a language, a pair of languages, or a group; an unknown code stays itself."""
    if key in GROUP_LABELS:
        return GROUP_LABELS[key]
    if "-" in key:
        return " \u2013 ".join(language_name(part) for part in key.split("-"))
    language = _language(key)
    return key if language is None else language.display_name().removesuffix(" (individual language)")


@lru_cache(maxsize=4096)
def language_tag(code: str) -> str:
    """The shortest standard tag (``deu`` -> ``de``), for HTML and model cards; ``und`` if unknown."""
    language = _language(code)
    return "und" if language is None else language.to_tag()


def _language(code: str) -> langcodes.Language | None:
    try:
        language = langcodes.Language.get(code)
    except LanguageTagError:
        return None
    return language if language.is_valid() else None
