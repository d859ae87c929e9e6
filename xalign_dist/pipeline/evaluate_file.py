"""`xalign evaluate`: any models side by side on a suite."""

from __future__ import annotations

from pathlib import Path

from xalign_dist.config import EncoderConfig, RunConfig
from xalign_dist.encoder import require_encoder
from xalign_dist.errors import ConfigError
from xalign_dist.evaluation.compare import compare
from xalign_dist.evaluation.metrics import write_metrics
from xalign_dist.evaluation.suite import load_suite
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.context import show_dashboard
from xalign_dist.pipeline.evaluate import evaluate_models
from xalign_dist.pipeline.rundir import local_only, write_json
from xalign_dist.reporting.console import summary_tables
from xalign_dist.reporting.differences import Difference
from xalign_dist.runtime.logs import events
from xalign_dist.runtime.session import check_seen, ray_session

READING = ("pooling", "max_tokens", "query_prefix", "passage_prefix", "attention")
"""Settings of ``encoder`` that say how a model is read; the others say what training makes of it."""
SHARED_MODEL = "put it on a file system that every node mounts (/shared in cluster/), or name it by hub id"


def evaluate_file(models: list[str], suite_path: str, out: str, config: RunConfig, screen: Screen) -> None:
    """Write ``out`` (metrics.json), and beside it comparisons.json and metrics.events.jsonl, the log.

    The first model is tested against the others. What ``config.encoder`` says of :data:`READING` holds
    for all of them.

    Raises:
        ConfigError: the same model twice, a setting of ``encoder`` that is not one of reading, or a fault
            in the suite.
        ModelError: a model cannot be used; one without files is found before anything starts.
        OutputError: ``out`` is a URI.
        ResourceError: no Ray, or nodes that do not see a model's folder.
    """
    if len(set(models)) < len(models):
        raise ConfigError("--model names the same model twice", "name each once")
    local_only(out, "evaluate")
    encoders = {model: _read_as(model, config.encoder) for model in models}
    suite = load_suite(suite_path)
    for model in models:  # not after hours, when it is the last one's turn
        require_encoder(model)
    title = f"evaluate {len(models)} models on {len(suite.tasks)} tasks"
    log = Path(out).resolve().with_suffix(".events.jsonl")
    with events(log, log.parent.name), ray_session(config.runtime) as resources:
        show_dashboard(screen)
        # Workers load the models; what they find goes back to this process, which writes it.
        for folder in (Path(m).absolute() for m in models if Path(m).exists()):
            check_seen(folder, SHARED_MODEL)
        with screen.stage(title):
            result = evaluate_models(encoders, suite, config, resources, config.seed, 0)
    write_metrics(result.metrics, out)
    rows = compare(result, models[0], models[1:], config.evaluation, config.seed) if models[1:] else []
    beside = Path(out).resolve().parent / "comparisons.json"
    comparisons = [r.to_json() for r in rows]
    write_json(beside, {"schema": 1, "comparisons": comparisons})
    differences = [Difference.from_json(r, str(beside)) for r in comparisons]
    tables = summary_tables(result.metrics, differences=differences, models=models)
    screen.say(*tables, *(f"note: {n}" for n in result.notes), f"metrics: {out}")


def _read_as(model: str, asked: EncoderConfig) -> EncoderConfig:
    beside = sorted(asked.model_fields_set - {*READING})
    if beside:
        raise ConfigError(
            f"encoder.{beside[0]} is for training: a model is measured as it is",
            f"name the model by --model, and of `encoder` set only {', '.join(READING)}",
        )
    return asked.model_copy(update={"model": model})
