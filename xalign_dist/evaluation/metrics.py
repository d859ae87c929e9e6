"""metrics.json: written whole or not at all, read back strictly; macro averages."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import fsspec
import numpy as np

from xalign_dist.errors import DataError, OutputError
from xalign_dist.records import ENGLISH, Metric

SCHEMA = 1
ALL = "all"
GROUP_NAMES = (ALL, "high", "low")

METRICS: dict[str, tuple[str, ...]] = {
    "retrieval": ("accuracy", "f1", "xsim"),
    "pooled_retrieval": ("accuracy", "language_bias"),
    "lexicon": ("p@1", "p@5", "mrr"),
    "similarity": ("pairs", "nonpairs", "gap"),
    "word_alignment": ("f1", "aer"),
    "mining": ("precision", "recall", "f1", "predicted_precision"),
    "audit": ("noise_estimated", "noise_true", "kept_clean", "noise_left"),
    "classification": ("accuracy",),
    "clir": (
        "mrr@10",
        "ndcg@10",
        "recall@10",
        "pooled_mrr@10",
        "pooled_ndcg@10",
        "pooled_recall@10",
    ),
    "geometry": ("alignment", "uniformity", "hubness", "isometry", "language_probe"),
}

LOWER_IS_BETTER = frozenset(
    {
        ("retrieval", "xsim"),
        ("pooled_retrieval", "language_bias"),
        ("similarity", "nonpairs"),
        ("word_alignment", "aer"),
        ("audit", "noise_left"),
        ("geometry", "alignment"),
        ("geometry", "uniformity"),
        ("geometry", "hubness"),
        ("geometry", "language_probe"),
    }
)


def base_task(task: str) -> str:
    """The kind of a task: ``retrieval`` for ``retrieval`` and for a named ``retrieval:ntrex``."""
    return task.partition(":")[0]


def lower_is_better(task: str, metric: str) -> bool:
    """Whether a smaller value of this metric is the better one."""
    return (base_task(task), metric) in LOWER_IS_BETTER


def write_metrics(metrics: Iterable[Metric], path: str) -> None:
    """Write ``{"schema": 1, "metrics": [...]}`` to a local path or any fsspec URI.

    Written beside the target and renamed over it, so that a reader never sees half a file.

    Raises:
        OutputError: a value is not finite, or the place is not writable.
    """
    rows = [m.to_json() for m in metrics]
    for row in rows:
        for field in ("value", "low", "high"):
            if row[field] is not None and not math.isfinite(row[field]):
                raise OutputError(
                    f"{path}: {field} of {row['model']} {row['task']} {row['metric']}"
                    f" {row['src_lang']}-{row['tgt_lang']} is {row[field]}",
                    "leave the row out; a value that cannot be computed has no row",
                )
    text = json.dumps({"schema": SCHEMA, "metrics": rows}, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        fs, target = fsspec.core.url_to_fs(str(path))
        parent = fs._parent(target)
        fs.makedirs(parent, exist_ok=True)
        aside = f"{target}.{uuid.uuid4().hex[:8]}.part"
        fs.pipe_file(aside, text.encode("utf-8"))
        fs.mv(aside, target)
    except OSError as err:
        raise OutputError(f"{path}: cannot be written ({err})", "check the path and its permissions") from err


def read_metrics(path: str) -> list[Metric]:
    """Read what :func:`write_metrics` wrote.

    Raises:
        DataError: missing, not JSON, another schema, or a row with wrong fields.
    """
    try:
        fs, target = fsspec.core.url_to_fs(str(path))
        document = json.loads(fs.cat_file(target))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "run `xalign evaluate` first, or check the path") from None
    except (OSError, ValueError) as err:
        raise DataError(
            f"{path}: not readable as JSON ({err})", "write it again with `xalign evaluate`"
        ) from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise DataError(
            f"{path}: not a metrics file of schema {SCHEMA}", "write it with this version of xalign"
        )
    return [_row(item, number, path) for number, item in enumerate(document.get("metrics", []))]


def _row(item: Any, number: int, path: str) -> Metric:
    try:
        return Metric(**item)
    except TypeError as err:
        raise DataError(f"{path}: metrics[{number}]: {err}", "give exactly the fields of Metric") from None


def macro_average(metrics: Sequence[Metric], groups: Mapping[str, Collection[str]]) -> list[Metric]:
    """Rows ``all`` and one per group: means over language pairs of each (model, task, metric).

    Args:
        metrics: rows of single language pairs; rows that are averages already are left out.
        groups: name (``high``, ``low``) -> its languages. See :func:`group_of`.

    Returns:
        Rows without intervals (they need the items, see ``evaluation.run``); ``n`` is summed.
        A group none of whose languages were measured has no row.
    """
    buckets: dict[tuple[str, int, str, str, int], list[Metric]] = {}
    for m in metrics:
        if m.src_lang not in GROUP_NAMES:
            buckets.setdefault((m.model, m.round, m.task, m.metric, m.seed), []).append(m)
    out = []
    for (model, round_, task, metric, seed), rows in buckets.items():
        for name in (ALL, *groups):
            chosen = [r for r in rows if counts_for(name, r.src_lang, r.tgt_lang, groups)]
            if chosen:
                value = float(np.mean([r.value for r in chosen]))
                n = sum(r.n for r in chosen)
                out.append(Metric(model, round_, task, metric, name, name, value, None, None, n, seed))
    return out


def counts_for(name: str, src_lang: str, tgt_lang: str, groups: Mapping[str, Collection[str]]) -> bool:
    """Whether a language pair's row enters the average ``name`` of its task.

    A row of one language alone (documents in the query's own language, a classifier tested on
    what it was trained on) is no cross-lingual result and enters none.
    """
    if src_lang == tgt_lang:
        return False
    return name == ALL or group_of(src_lang, tgt_lang, groups) == name


def group_of(src_lang: str, tgt_lang: str, groups: Mapping[str, Collection[str]]) -> str | None:
    """The group of a language pair, None without one.

    English and ``all`` belong to no group; the other languages decide. Where they are of
    different groups the pair counts for the last group named (low after high): a pair is as
    hard as its harder side.
    """
    deciding = {src_lang, tgt_lang} - {ENGLISH, *GROUP_NAMES}
    home = None
    for name, members in groups.items():
        if not deciding.isdisjoint(members):
            home = name
    return home
