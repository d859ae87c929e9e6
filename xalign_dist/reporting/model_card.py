"""The model card, in the conventions of sentence-transformers."""

from __future__ import annotations

import yaml

from xalign_dist.evaluation.metrics import ALL
from xalign_dist.reporting import formats
from xalign_dist.reporting.names import group_label, is_share, language_name, model_label, task_label
from xalign_dist.reporting.results import Results
from xalign_dist.reporting.run_data import RunData, language_groups, load_run


def model_card(run: str) -> str:
    """Markdown with YAML front matter for RUN/model, from what the run measured.

    Raises:
        DataError: no run directory, or a damaged file in it.
    """
    data = load_run(run)
    groups = language_groups(data)
    results = Results(data.metrics, groups)
    parts = [_front_matter(data, groups), _use(), _languages(groups), _figures(results), _training(data)]
    return "\n\n".join(p for p in parts if p) + "\n"


def _front_matter(data: RunData, groups: dict[str, str]) -> str:
    fields = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "cross-lingual", "xalign_dist"],
        "language": sorted({"eng", *groups}),
    }
    model = (data.config.get("encoder") or {}).get("model")
    if model and not str(model).startswith("builtin:"):
        fields["base_model"] = model
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n\n# Cross-lingual sentence encoder\n\n" + (
        f"Trained from `{model}` so that translations lie together."
    )


def _use() -> str:
    return (
        "## Use\n\n```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        'model = SentenceTransformer("path/to/model")\n'
        'vectors = model.encode(["The door is open.", "Die Tür ist offen."])\n'
        "print(model.similarity(vectors, vectors))\n```"
    )


def _languages(groups: dict[str, str]) -> str:
    lines = []
    for group in ("high", "low"):
        names = sorted(language_name(x) for x, g in groups.items() if g == group)
        if names:
            lines.append(f"- {group_label(group)}: {', '.join(names)}")
    return "## Languages trained on\n\n" + "\n".join(lines) if lines else ""


def _figures(results: Results) -> str:
    if not results.rows:
        return ""
    head = "| | " + " | ".join(model_label(m) for m in results.models) + " |"
    lines = [head, "|---|" + "---:|" * len(results.models)]
    for task, metric in results.headline_rows():
        for key in (ALL, "high", "low"):
            points = [results.point(m, task, metric, key) for m in results.models]
            if any(points):
                cells = [formats.value(p.value if p else None, is_share(task)) for p in points]
                lines.append(
                    f"| {task_label(task, metric)}, {group_label(key)} | " + " | ".join(cells) + " |"
                )
    return "## Evaluation\n\nOn held-out text; shares in percent.\n\n" + "\n".join(lines)


def _training(data: RunData) -> str:
    training = data.config.get("training") or {}
    facts = [
        f"- {training.get('steps')} steps of {training.get('batch_pairs')} pairs,"
        f" learning rate {training.get('learning_rate')}, seed {data.config.get('seed')}",
        "- pairs: parallel text weighted by calibrated confidence, and pairs mined from monolingual text",
        "- objective: dynamic contrastive loss; the settings are in config.yaml of the run",
    ]
    limits = (
        "## Limits\n\nSimilarity says how alike two texts are to the encoder, not whether one is a correct"
        " translation of the other. Languages outside the list above were not checked."
    )
    return "## Training\n\n" + "\n".join(facts) + "\n\n" + limits
