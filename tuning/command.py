"""`xalign sweep`: a search space over a config, trial by trial on Ray Tune."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from tuning.finals import DEFAULT, contest, test_once, to_json
from tuning.guard import BUDGET
from tuning.objective import METRIC, located, pipeline_objective, prepare_seed, prepare_shared
from tuning.report import write_sweep_report
from tuning.shares import limits, trial_runtime, with_gpus
from tuning.space import Space, load_space
from tuning.stages import PipelineRounds, check_varies
from tuning.statement import statement
from tuning.summary import Trial, best_first, table, write_summary
from tuning.sweep import Sweep
from xalign_dist.config import RunConfig, load_config
from xalign_dist.errors import ConfigError, StageError
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.context import RunContext, open_run
from xalign_dist.pipeline.corpus import Corpus
from xalign_dist.pipeline.rundir import local_only

_SHOWN = 10


def sweep(
    config: Annotated[str | None, typer.Argument(help="YAML config that is varied.")] = None,
    space: Annotated[
        str | None, typer.Argument(help="Search space, e.g. tuning/spaces/paper_grid.yaml.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings: section.key=value ...")] = None,
    out: Annotated[str, typer.Option("--out", help="Folder for the results.")] = "runs/sweep",
    scheduler: Annotated[str | None, typer.Option("--scheduler", help="asha, pbt or none.")] = None,
    search: Annotated[str | None, typer.Option("--search", help="grid, random, optuna or bohb.")] = None,
    samples: Annotated[int | None, typer.Option("--samples", help="Trials, where they are drawn.")] = None,
    max_concurrent: Annotated[
        str | None, typer.Option("--max-concurrent", help="Trials at once, or auto.")
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="e.g. 20gpuh or 3.5cpuh.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Only write OUT/report.html anew.")] = False,
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster; default: embedded.")] = None,
) -> None:
    """Search settings on the development pairs; the same command continues a killed sweep."""
    screen = Screen()
    local_only(out, "sweep")
    if report:
        screen.say(f"report: {escape(write_sweep_report(str(Path(out).resolve())))}")
        return
    if config is None or space is None:
        raise ConfigError("a sweep needs a config and a space", "write: xalign sweep CONFIG.yaml SPACE.yaml")
    extra = [f"runtime.address={address}"] if address else []
    settings = located(load_config(config, [*(overrides or []), *extra]))
    # Trials run inside the cluster already: an address would make them connect a second time.
    base = settings.model_dump(mode="json", exclude={"runtime": {"address"}})
    plan = load_space(space, base).changed(
        scheduler=scheduler,
        search=search,
        samples=samples,
        max_concurrent=_concurrency(max_concurrent),
        budget=budget,
        reports=settings.rounds.count if settings.rounds.count > 1 else None,
    )
    _check(plan, settings)
    with open_run(settings, str(Path(out).resolve() / "base"), screen) as context:
        _search(context, plan, base, Path(out).resolve())


def _search(context: RunContext, plan: Space, base: dict[str, Any], root: Path) -> None:
    screen, settings, resources = context.screen, context.config, context.resources
    resources = with_gpus(plan, settings, resources)
    given = limits(plan, settings, resources)
    corpus = prepare_shared(context)
    trial_base = {**base, "runtime": {**base["runtime"], **trial_runtime(plan, settings, resources)}}
    sweep = Sweep(
        plan,
        pipeline_objective(trial_base, str(context.run.root)),
        str(root),
        seed=settings.seed,
        limits=given,
        mlflow=settings.tracking.mlflow,
        stages=PipelineRounds(trial_base, str(context.run.root)),
    )
    with screen.stage(f"{plan.trials()} trials, {given.concurrent} at a time"):
        found = sweep.search()
        if sweep.ended_by == BUDGET and all(t.value is None for t in found):
            raise StageError(
                f"the budget of {plan.budget} was spent before any trial reported a value",
                "give the same command a larger --budget: what was cleaned and embedded stays",
            )
        ranked = write_summary(found, plan, base, root)
    _conclude(context, corpus, sweep, base, ranked)
    screen.say(table(ranked[:_SHOWN], plan))
    screen.say(
        f"report: {escape(write_sweep_report(str(root)))}", f"best config: {escape(str(root / 'best.yaml'))}"
    )


def _conclude(
    context: RunContext, corpus: Corpus, sweep: Sweep, base: dict[str, Any], ranked: list[Trial]
) -> None:
    """Finalists over seeds, the test set once for the winner, the statement; best.yaml is the winner's."""
    plan, ended_by = sweep.space, sweep.ended_by
    contenders = []
    if not ended_by and plan.finalists:
        with context.screen.stage(f"{plan.finalists} finalists and the default, {plan.seeds} seeds"):
            contenders = contest(sweep, ranked, partial(prepare_seed, context, base))
        ended_by = sweep.ended_by
    with context.screen.stage("the winner on the test set"):
        comparisons = test_once(context, corpus, base, contenders, sweep.root)
    said = statement(plan, ranked, contenders, comparisons, ended_by, sweep.limits)
    winner = None
    if contenders:
        winner = {} if contenders[0].name == DEFAULT else contenders[0].parameters
    more = {
        "finalists": to_json(contenders),
        "comparisons": comparisons,
        "statement": said,
        "ended_by": ended_by,
        "budget": plan.budget,
        "hours": sweep.spent(),
    }
    write_summary(best_first(ranked, plan.mode), plan, base, sweep.root, winner=winner, more=more)
    context.screen.say(*said)


def _concurrency(given: str | None) -> int | str | None:
    return int(given) if given is not None and given.isdigit() else given


def _check(plan: Space, settings: RunConfig) -> None:
    """What would otherwise come to light only after the first trial."""
    if plan.metric != METRIC:
        raise ConfigError(
            f"metric {plan.metric} is never reported: a trial reports {METRIC}, from the development pairs",
            f"set metric: {METRIC} in the space",
        )
    compares = plan.scheduler != "none" or plan.search == "bohb"
    if compares and settings.rounds.count < 2:
        name = plan.scheduler if plan.scheduler != "none" else plan.search
        raise ConfigError(
            f"{name} compares trials after each round, and rounds.count is {settings.rounds.count}",
            "set rounds.count to at least 2, e.g. rounds.count=4, or --scheduler none with --search grid, "
            "random or optuna",
        )
    if plan.scheduler == "pbt":
        check_varies(plan)
    if not settings.corpora:
        raise ConfigError("nothing to train on", "list what to read under `corpora` in the config")
