"""`xalign ablate`: the run with each component left out, over seeds, tested against the whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.markup import escape

from xalign_dist.config import EncoderConfig, RunConfig
from xalign_dist.errors import ConfigError
from xalign_dist.evaluation.compare import compare_seeds
from xalign_dist.evaluation.metrics import write_metrics
from xalign_dist.evaluation.run import EvaluationResult, evaluate
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.corpus import open_corpus
from xalign_dist.pipeline.evaluate import run_suite
from xalign_dist.pipeline.files import WORK, output_folder
from xalign_dist.pipeline.rounds import run_all
from xalign_dist.pipeline.rundir import write_json
from xalign_dist.records import EmbedFn
from xalign_dist.reporting.ablation import ablation_table
from xalign_dist.reporting.differences import Difference
from xalign_dist.runtime.embed_pool import embed_pool
from xalign_dist.runtime.session import ray_session

FULL = "full"


def _part_off(part: str) -> Callable[[RunConfig], RunConfig]:
    def change(config: RunConfig) -> RunConfig:
        section = getattr(config.objective, part).model_copy(update={"enabled": False})
        return config.model_copy(update={"objective": config.objective.model_copy(update={part: section})})

    return change


def _pairs_off(**settings: bool) -> Callable[[RunConfig], RunConfig]:
    return lambda c: c.model_copy(update={"pairs": c.pairs.model_copy(update=settings)})


ARMS: dict[str, Callable[[RunConfig], RunConfig]] = {
    FULL: lambda config: config,
    "without filter": _pairs_off(filter_parallel=False, use_confidence_as_weight=False),
    "without pseudo-labels": _pairs_off(use_mined=False),
    "without dynamic temperature": _part_off("temperature"),
    "without hardness": _part_off("hardness"),
    "without false-negative mask": _part_off("false_negatives"),
    "without regulariser": _part_off("regulariser"),
    "without adversary": _part_off("adversary"),
}


def ablate(
    config: RunConfig, out: str, seeds: int, screen: Screen, only: Sequence[str] | None = None
) -> None:
    """Train every arm with ``seeds`` seeds into ``out``, then evaluate all side by side.

    Writes ``out``/metrics.json and ``out``/ablation.json; finished arms are skipped.

    Args:
        only: arms to train beside the full method. None: all.

    Raises:
        ConfigError: no corpora, or an arm that does not exist.
        OutputError: ``out`` cannot be created.
    """
    arms = _chosen(only)
    if not config.corpora:
        raise ConfigError("nothing to train on", "list what to read under `corpora` in the config")
    home = output_folder(out)
    # One Ray for all arms: each start costs seconds, and a run uses the one that it finds.
    with ray_session(config.runtime, str(home / WORK / "run.log")):
        results = [_train_arms(config, out, config.seed + n, arms, screen) for n in range(seeds)]
    write_metrics([m for r in results for m in r.metrics], str(home / "metrics.json"))
    rows = compare_seeds(results, FULL, [n for n in arms if n != FULL], config.evaluation, config.seed)
    found = [r.to_json() for r in rows]
    write_json(home / "ablation.json", {"schema": 1, "comparisons": found})
    shown = [Difference.from_json(row, f"{out}/ablation.json") for row in found]
    screen.say(ablation_table(shown), f"results: {escape(out)}")


def _chosen(only: Sequence[str] | None) -> dict[str, Callable[[RunConfig], RunConfig]]:
    unknown = [name for name in only or () if name not in ARMS]
    if unknown:
        raise ConfigError(f"--arm {unknown[0]}: no such arm", f"choose from {', '.join(ARMS)}")
    return {n: change for n, change in ARMS.items() if not only or n == FULL or n in only}


def _train_arms(
    config: RunConfig,
    out: str,
    seed: int,
    arms: dict[str, Callable[[RunConfig], RunConfig]],
    screen: Screen,
) -> EvaluationResult:
    models = {}
    bare = config.evaluation.model_copy(update={"baselines": [], "projection_points": 0})
    for name, change in arms.items():
        folder = Path(out) / f"seed={seed}" / name.replace(" ", "-")
        arm = change(config.model_copy(update={"seed": seed, "evaluation": bare}))
        screen.say(f"[bold]{name}[/], seed {seed}")
        run_all(arm, str(folder), screen)
        models[name] = folder
    return _evaluate(config, seed, models, screen)


def _evaluate(config: RunConfig, seed: int, runs: dict[str, Path], screen: Screen) -> EvaluationResult:
    corpus = open_corpus(config, runs[FULL] / "corpus")
    suite = run_suite(config, corpus, runs[FULL])
    with ray_session(config.runtime) as resources, contextlib.ExitStack() as stack:
        pools: dict[str, EmbedFn] = {}
        for name, folder in runs.items():
            model = str(folder / "model")
            pool = embed_pool(model, EncoderConfig(model=model), config.runtime, resources)
            pools[name] = stack.enter_context(pool)
        with screen.stage(f"evaluate {len(runs)} arms, seed {seed}"):
            return evaluate(pools, suite, config.evaluation, seed, config.rounds.count)
