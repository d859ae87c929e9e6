"""The model card, in the conventions of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from xalign_dist.evaluation.metrics import ALL, GROUP_NAMES
from xalign_dist.records import ENGLISH
from xalign_dist.reporting import formats
from xalign_dist.reporting.names import (
    group_label,
    is_share,
    language_name,
    language_tag,
    model_label,
    task_label,
)
from xalign_dist.reporting.results import Results
from xalign_dist.reporting.run_data import RunData, language_groups, load_run
from xalign_dist.reporting.view_corpus import audit_rows, mining_rows


def model_card(run: str) -> str:
    """Markdown with YAML front matter for RUN/model, from what the run measured.

    Raises:
        DataError: no run directory, or a damaged file in it.
    """
    data = load_run(run)
    groups = language_groups(data)
    results = Results(data.metrics, groups)
    model = str((data.config.get("encoder") or {}).get("model") or "")
    parts = [
        f"---\n{_front_matter(data, groups, results, model)}---",
        "# Cross-lingual sentence encoder",
        f"Maps sentences to unit vectors in which translations lie together. Trained from {_code(model)}"
        " with xalign_dist."
        if model
        else "",
        _use(data),
        _figures(results),
        _training_data(data, groups),
        _training(data),
        _limits(groups),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _front_matter(data: RunData, groups: Mapping[str, str], results: Results, model: str) -> str:
    languages = {ENGLISH, *groups} if groups else set()
    fields: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": [
            "sentence-transformers",
            "sentence-similarity",
            "feature-extraction",
            "cross-lingual",
            "xalign_dist",
        ],
    }
    if languages:
        fields["language"] = sorted({language_tag(x) for x in languages})
    if "/" in model and not model.startswith(("builtin:", ".", "/")):
        fields["base_model"] = model
    index = _model_index(data, results)
    if index:
        fields["model-index"] = index
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def _model_index(data: RunData, results: Results) -> list[dict[str, Any]]:
    """Averages over all languages, in the form that model hubs read."""
    found = []
    for task, metric in results.headline_rows():
        point = results.point(results.ours or "", task, metric, ALL)
        if point is not None:
            kind = task.partition(":")[0].replace("_", "-")
            found.append(
                {
                    "task": {"type": kind, "name": task_label(task)},
                    "dataset": {"type": "held-out", "name": f"suite of {data.name}"},
                    "metrics": [
                        {"type": metric, "value": round(point.value, 4), "name": task_label(task, metric)}
                    ],
                }
            )
    return [{"name": data.name, "results": found}] if found else []


def _use(data: RunData) -> str:
    encoder = data.config.get("encoder") or {}
    lines = [
        "## Use",
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        'model = SentenceTransformer("path/to/model")',
        'vectors = model.encode(["The door is open.", "Die Tür ist offen."])',
        "print(model.similarity(vectors, vectors))",
        "```",
    ]
    prefixes = [(side, encoder.get(f"{side}_prefix")) for side in ("query", "passage")]
    shown = [f"{_code(str(text))} before a {side}" for side, text in prefixes if text]
    if shown:
        lines += ["", f"Trained with prefixes: {' and '.join(shown)}."]
    return "\n".join(lines)


def _figures(results: Results) -> str:
    if not results.rows:
        return ""
    lines = [
        "## Evaluation",
        "",
        "On held-out text. Shares in percent, with the 95 % interval of this model.",
        "",
        "| | " + " | ".join(_cell(model_label(m)) for m in results.models) + " | interval |",
        "|---|" + "---:|" * (len(results.models) + 1),
    ]
    for task, metric in results.headline_rows():
        for key in GROUP_NAMES:
            points = [results.point(m, task, metric, key) for m in results.models]
            if any(points):
                share = is_share(task)
                own = results.point(results.ours or "", task, metric, key)
                cells = [formats.value(p.value if p else None, share) for p in points]
                cells.append(formats.interval(own.low, own.high, share) if own else formats.NONE)
                label = _cell(f"{task_label(task, metric)}, {group_label(key)}")
                lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _training_data(data: RunData, groups: Mapping[str, str]) -> str:
    lines = ["## Training data", ""]
    for group, what in (("high", "parallel text"), ("low", "pairs mined from monolingual text")):
        names = sorted(language_name(x) for x, g in groups.items() if g == group)
        if names:
            lines.append(f"- {group_label(group)} ({what}): {', '.join(names)}")
    audit = [r for r in audit_rows(data.audits, data.metrics) if not r.part]
    pairs = sum(r.pairs for r in audit)
    if pairs:
        noise = sum(r.estimated * r.pairs for r in audit) / pairs
        lines.append(
            f"- {formats.count(pairs)} parallel pairs, {formats.percent(noise)} % of them estimated to be"
            " no translations and weighed accordingly"
        )
    mined = [r for r in mining_rows(data.audits, data.metrics) if r.key not in GROUP_NAMES and r.kept]
    last = max((r.round for r in mined), default=0)
    if mined:
        kept = sum(r.kept or 0 for r in mined if r.round == last)
        lines.append(f"- {formats.count(kept)} mined pairs in round {last}")
    return "\n".join(lines) if len(lines) > 2 else ""


def _training(data: RunData) -> str:
    training, objective = data.config.get("training") or {}, data.config.get("objective") or {}
    if not training:
        return ""
    named = ("steps", "batch_pairs", "learning_rate", "warmup_share", "optimizer", "precision")
    lines = [f"- {n.replace('_', ' ')}: {_code(str(training[n]))}" for n in named if n in training]
    if "seed" in data.config:
        lines.append(f"- seed: {_code(str(data.config['seed']))}")
    on = [n.replace("_", " ") for n, part in objective.items() if (part or {}).get("enabled", True)]
    if objective:
        lines.append(
            "- objective: InfoNCE in both directions"
            + (f" with adaptive parts: {', '.join(on)}" if on else ", fixed temperature")
        )
    return "\n".join(["## Training", "", *lines])


def _limits(groups: Mapping[str, str]) -> str:
    lines = [
        "## Limits",
        "",
        "- Similarity says how alike two texts are to the encoder, not whether one is a correct"
        " translation of the other.",
        "- The licence of the weights follows from the encoder that training started from and from the"
        " corpora; it is not stated here.",
    ]
    if groups:
        lines.append("- Languages other than those above were not trained on.")
    if "low" in groups.values():
        lines.append(
            "- Low-resource languages were learned from mined pairs, some of which are wrong; see the"
            " predicted precision in the report of the run."
        )
    return "\n".join(lines)


def _code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
