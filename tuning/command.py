"""`xalign sweep`: a search space over a config, trial by trial on Ray Tune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tuning.objective import pipeline_objective, prepare_shared
from tuning.space import load_space
from tuning.summary import table
from tuning.sweep import sweep as run_trials
from xalign_dist.config import load_config
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.context import open_run


def sweep(
    space: Annotated[str, typer.Argument(help="Search space, e.g. tuning/spaces/paper_grid.yaml.")],
    config: Annotated[str, typer.Argument(help="YAML config that is varied.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings: section.key=value ...")] = None,
    out: Annotated[str, typer.Option("--out", help="Folder for the results.")] = "runs/sweep",
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster; default: embedded.")] = None,
) -> None:
    """Search settings on the development pairs; the same command continues a killed sweep."""
    extra = [f"runtime.address={address}"] if address else []
    settings = load_config(config, [*(overrides or []), *extra])
    # Trials run inside the cluster already: an address would make them connect a second time.
    base = settings.model_dump(mode="json", exclude={"runtime": {"address"}})
    plan = load_space(space, base)
    screen, root = Screen(), Path(out).resolve()
    with open_run(settings, str(root / "base"), screen) as context:
        prepare_shared(context)
        objective = pipeline_objective(base, str(context.run.root))
        with screen.stage(f"{plan.trials()} trials, {plan.max_concurrent} at a time"):
            ranked = run_trials(plan, objective, str(root), base=base, seed=settings.seed)
    screen.say(table(ranked[:10], plan), f"best config: {escape(str(root / 'best.yaml'))}")
