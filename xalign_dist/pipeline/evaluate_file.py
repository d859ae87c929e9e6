"""`xalign evaluate`: any models side by side on a suite."""

from __future__ import annotations

import contextlib
from pathlib import Path

from xalign_dist.config import EncoderConfig, RunConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.errors import ConfigError
from xalign_dist.evaluation.compare import compare
from xalign_dist.evaluation.metrics import write_metrics
from xalign_dist.evaluation.miner import system_miner
from xalign_dist.evaluation.run import evaluate
from xalign_dist.evaluation.suite import load_suite
from xalign_dist.evaluation.token_states import encoder_word_states
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.rundir import local_only, write_json
from xalign_dist.reporting.console import summary_tables
from xalign_dist.reporting.differences import Difference
from xalign_dist.runtime.embed_pool import embed_pool
from xalign_dist.runtime.session import ray_session


def evaluate_file(models: list[str], suite_path: str, out: str, config: RunConfig, screen: Screen) -> None:
    """Write ``out`` (metrics.json) and comparisons.json beside it.

    The first model is tested against the others.

    Raises:
        ConfigError: the same model twice, or a fault in the suite.
        OutputError: ``out`` is a URI.
    """
    if len(set(models)) < len(models):
        raise ConfigError("--model names the same model twice", "name each once")
    local_only(out, "evaluate")
    suite = load_suite(suite_path)
    needs_words = any(t.task == "word_alignment" for t in suite.tasks)
    with ray_session(config.runtime) as resources, contextlib.ExitStack() as stack:
        pools = {
            m: stack.enter_context(embed_pool(m, EncoderConfig(model=m), config.runtime, resources))
            for m in models
        }
        states = {m: encoder_word_states(load_encoder(m)) for m in models} if needs_words else None
        with screen.stage(f"evaluate {len(models)} models on {len(suite.tasks)} tasks"):
            miner = system_miner(config.mining, config.seed)
            result = evaluate(pools, suite, config.evaluation, config.seed, token_states=states, mine=miner)
    write_metrics(result.metrics, out)
    rows = compare(result, models[0], models[1:], config.evaluation, config.seed) if models[1:] else []
    beside = Path(out).resolve().parent / "comparisons.json"
    comparisons = [r.to_json() for r in rows]
    write_json(beside, {"schema": 1, "comparisons": comparisons})
    differences = [Difference.from_json(r, str(beside)) for r in comparisons]
    tables = summary_tables(result.metrics, differences=differences, models=models)
    screen.say(*tables, *(f"note: {n}" for n in result.notes), f"metrics: {out}")
