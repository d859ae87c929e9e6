"""`xalign ablate`: the run with each component switched in turn, every arm and seed a trial on Ray Tune."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from tuning.components import FULL, arms
from tuning.components import INFONCE as FIXED
from tuning.objective import located, pipeline_objective, prepare_shared, trained_model
from tuning.records import Records, trial_name
from tuning.shares import limits, trial_runtime
from tuning.space import Space, configure, override
from tuning.sweep import Sweep
from xalign_dist.config import EncoderConfig, RunConfig, load_config
from xalign_dist.corpora.tables import write_table
from xalign_dist.errors import ConfigError, StageError
from xalign_dist.evaluation.compare import compare_seeds
from xalign_dist.evaluation.items import items_table
from xalign_dist.evaluation.metrics import write_metrics
from xalign_dist.evaluation.run import EvaluationResult
from xalign_dist.evaluation.saved import METRICS_FILE, SUMS_FILE, read_result, save_result
from xalign_dist.pipeline.console import Advance, Screen, run_stage
from xalign_dist.pipeline.context import RunContext, open_run
from xalign_dist.pipeline.corpus import Corpus
from xalign_dist.pipeline.evaluate import ADAPTIVE, INFONCE, evaluate_models, run_suite, suite_inputs
from xalign_dist.pipeline.manifest import digest, file_digest
from xalign_dist.pipeline.report import report_directory
from xalign_dist.pipeline.rundir import RunDir, local_only, publish_model, write_json
from xalign_dist.reporting.ablation import ablation_table
from xalign_dist.reporting.differences import Difference

SHARED, ABLATION_FILE = "shared", "ablation.json"


def ablate(
    config: Annotated[str, typer.Argument(help="YAML config: the full method.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings: section.key=value ...")] = None,
    out: Annotated[str, typer.Option("--out", help="Folder for the results.")] = "runs/ablate",
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster; default: embedded.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds per arm.")] = 1,
    first_seed: Annotated[
        int, typer.Option("--first-seed", min=0, help="Number of the first; those before are left out.")
    ] = 0,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="Only this arm beside full; once per arm.")
    ] = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option("--max-concurrent", min=1, help="Arms at once; default: what there is room for."),
    ] = None,
) -> None:
    """Run the config with each component switched, and compare; the same command continues."""
    screen = Screen()
    extra = [f"runtime.address={address}"] if address else []
    settings = located(load_config(config, [*(overrides or []), *extra]))
    chosen = _chosen(settings, arm)
    if not settings.corpora:
        raise ConfigError("nothing to train on", "list what to read under `corpora` in the config")
    base = settings.model_dump(mode="json", exclude={"runtime": {"address"}})
    root = Path(local_only(out, "ablate")).resolve()
    with open_run(settings, str(root / SHARED), screen) as context:
        corpus = prepare_shared(context, judged=False)
        numbers = range(first_seed, first_seed + seeds)
        named = [Arm(name, chosen[name], n, settings.seed + n, root) for n in numbers for name in chosen]
        _train(context, base, root, named, max_concurrent)
        results = [
            EvaluationResult.merged(_evaluate(context, corpus, base, a) for a in named if a.number == n)
            for n in numbers
        ]
        write_metrics([m for r in results for m in r.metrics], str(root / "metrics.json"))
        rows = compare_seeds(
            results, FULL, [n for n in chosen if n != FULL], settings.evaluation, settings.seed
        )
    found = [r.to_json() for r in rows]
    write_json(root / ABLATION_FILE, {"schema": 1, "comparisons": found})
    report = _report(named[0], results[0], found, settings)
    shown = [Difference.from_json(row, f"{out}/{ABLATION_FILE}") for row in found]
    screen.say(ablation_table(shown), f"results: {escape(out)}", f"report: {escape(report)}")


def _report(
    full: Arm, result: EvaluationResult, ablation: Sequence[dict[str, Any]], settings: RunConfig
) -> str:
    """The report of the full method's first seed with the ablation (of all seeds) in it; its path.

    ``result``: of that seed. The fixed InfoNCE arm, where it was trained, is its baseline.
    """
    names = {FULL: ADAPTIVE, FIXED: INFONCE}
    known = [names[m] for m in dict.fromkeys(m.model for m in result.metrics) if m in names]
    rows = [replace(m, model=names[m.model]) for m in result.metrics if m.model in names]
    items = {(names[k[0]], *k[1:]): v for k, v in result.items.items() if k[0] in names}
    renamed = replace(result, metrics=rows, items=items)
    beside = compare_seeds([renamed], ADAPTIVE, [n for n in known if n != ADAPTIVE], settings.evaluation)
    write_metrics(rows, str(full.folder / METRICS_FILE))
    write_json(full.folder / "comparisons.json", {"schema": 1, "comparisons": [r.to_json() for r in beside]})
    write_json(full.folder / ABLATION_FILE, {"schema": 1, "comparisons": ablation})
    return report_directory(str(full.folder))


class Arm:
    """One arm under one seed: its settings, and its run directory ``OUT/seed=N/ARM``."""

    def __init__(self, name: str, changes: Sequence[str], number: int, seed: int, root: Path) -> None:
        """``changes``: settings that differ from the full method's; ``number`` of the seed, from 0."""
        self.name, self.number, self.seed = name, number, seed
        self.overrides = [*changes, override("seed", seed)]
        self.folder = root / f"seed={seed}" / name.replace(" ", "-")


def _chosen(settings: RunConfig, only: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    known = arms(settings)
    unknown = [name for name in only or () if name not in known]
    if unknown:
        raise ConfigError(f"--arm {unknown[0]}: no such arm", f"choose from {', '.join(known)}")
    return {name: known[name] for name in known if not only or name == FULL or name in only}


def _train(
    context: RunContext, base: dict[str, Any], root: Path, arms: Sequence[Arm], at_once: int | None
) -> None:
    """Every arm that is not trained yet.

    Raises:
        StageError: an arm failed; names it and its log. The others are kept.
    """
    # What decides which trials there are is the list of points: further arms and seeds may join a folder.
    plan = Space.model_validate({"finalists": 0, "parameters": {"arm": {"grid": [FULL]}}})
    counted = plan.model_copy(update={"samples": len(arms), "max_concurrent": at_once or "auto"})
    runtime = trial_runtime(counted, context.config, context.resources)
    trial_base = {**base, "runtime": {**base["runtime"], **runtime}}
    places = {tuple(a.overrides): str(a.folder) for a in arms}
    sweep = Sweep(
        plan,
        pipeline_objective(trial_base, str(context.run.root), places),
        str(root / "trials"),
        seed=context.config.seed,
        limits=limits(counted, context.config, context.resources),
        mlflow=context.config.tracking.mlflow,
    )
    with context.screen.stage(f"train {len(arms)} arms, {sweep.limits.concurrent} at a time"):
        sweep.points("arms", [a.overrides for a in arms])
    for a in arms:
        if sweep.known(a.overrides) is None:
            record = Records(sweep.lane.records).read(trial_name(a.overrides))
            raise StageError(
                f"arm {a.name!r}, seed {a.seed}: {record.error if record else 'was not run'}",
                f"see {a.folder}/logs; the same command goes on with what is missing",
            )


def _evaluate(context: RunContext, corpus: Corpus, base: Mapping[str, Any], arm: Arm) -> EvaluationResult:
    """One arm on the suite; its part goes into its run directory as well. Measured once."""
    config = configure(base, arm.overrides, arm.name)
    model = Path(trained_model(str(arm.folder), config))
    suite = run_suite(context.config, corpus, context.run.root)
    saved = context.run.root / "evaluation" / arm.folder.parent.name / arm.folder.name
    inputs = digest(
        *suite_inputs(suite, context.config), config.model_dump(exclude={"runtime"}), file_digest(model)
    )

    def work(_: Advance) -> dict[str, Any]:
        models, settings = {arm.name: EncoderConfig(model=str(model))}, context.config
        result = evaluate_models(models, suite, settings, context.resources, arm.seed, settings.rounds.count)
        save_result(result, saved)
        return {"metrics": len(result.metrics), "notes": result.notes}

    title = f"evaluate {arm.name}, seed {arm.seed}"
    outputs = [saved / METRICS_FILE, saved / SUMS_FILE]
    run_stage(context.screen, context.manifest, title, title, inputs, outputs, work, unit="texts")
    result, run = read_result(saved), RunDir(arm.folder)
    own = [replace(m, model=ADAPTIVE) for m in result.metrics]
    items = {(ADAPTIVE, *key[1:]): value for key, value in result.items.items()}
    write_metrics(own, str(run.metrics))
    write_table(items_table(EvaluationResult(own, items)), str(run.root / "items.parquet"))
    publish_model(model, run.model)
    return result
