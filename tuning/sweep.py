"""Ray Tune over a function: dotted overrides in, numbers out, resumable by the same command."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from tuning.space import Parameter, Space, override
from tuning.summary import Trial, write_summary
from xalign_dist.errors import OutputError

Report = Callable[[Mapping[str, float]], None]
Objective = Callable[[Sequence[str], str, Report], Mapping[str, float]]
"""Overrides (``key=value``) and the trial's own folder in, the last numbers out. ``report`` may be
called before with numbers so far: early stopping compares trials by them."""

EXPERIMENT = "trials"
_SPACE_FILE = "space.sha256"


def sweep(
    space: Space, objective: Objective, out: str, *, base: Mapping[str, Any] | None = None, seed: int = 0
) -> list[Trial]:
    """Run every trial of ``space``; started again with the same ``out``, only what is missing.

    Ray is joined if the process is connected, and started by Tune if not. Failed trials are
    tried again at the next start.

    Args:
        space: from :func:`tuning.space.load_space`.
        objective: must be picklable; runs in a process of its own.
        out: local folder: trials.json, trials.md, best.yaml, and Tune's own state.
        base: the config that is varied, as a plain mapping.
        seed: of the draws.

    Returns:
        The trials, best first.

    Raises:
        OutputError: ``out`` holds the results of another space.
        StageError: no trial gave a value.
    """
    root = Path(out).resolve()
    _claim(root, space, seed)
    # Tune would move every trial into a folder of its own, and relative corpus paths would break.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    # The newer output prints its tables even at verbosity 0.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    folders = str(root / "runs")
    trainable = tune.with_resources(_trainable(space, objective, folders), {"cpu": space.trial_cpus})
    experiment = str(root / EXPERIMENT)
    if tune.Tuner.can_restore(experiment):
        tuner = tune.Tuner.restore(
            experiment, trainable, restart_errored=True, param_space=param_space(space)
        )
    else:
        tuner = tune.Tuner(
            trainable,
            param_space=param_space(space),
            tune_config=tune.TuneConfig(
                metric=space.metric,
                mode=space.mode,
                num_samples=space.samples,
                scheduler=_scheduler(space),
                search_alg=BasicVariantGenerator(max_concurrent=space.max_concurrent, random_state=seed),
            ),
            run_config=tune.RunConfig(name=EXPERIMENT, storage_path=str(root), verbose=0),
        )
    results = tuner.fit()
    return write_summary([_trial(r, space) for r in results], space, base, root)


def param_space(space: Space) -> dict[str, Any]:
    """The space in Tune's words, keyed by dotted setting."""
    return {key: _domain(parameter) for key, parameter in space.parameters.items()}


def _domain(parameter: Parameter) -> Any:
    if parameter.grid is not None:
        return tune.grid_search(list(parameter.grid))
    if parameter.choice is not None:
        return tune.choice(list(parameter.choice))
    if parameter.uniform is not None:
        return tune.uniform(*parameter.uniform)
    assert parameter.loguniform is not None
    return tune.loguniform(*parameter.loguniform)


def _scheduler(space: Space) -> TrialScheduler:
    if space.scheduler == "none":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="training_iteration",
        max_t=space.asha_reports,
        grace_period=1,
        reduction_factor=space.asha_keep,
    )


def _trainable(space: Space, objective: Objective, folders: str) -> Callable[[dict[str, Any]], None]:
    fixed = [override(key, value) for key, value in space.fixed.items()]

    def run_trial(chosen: dict[str, Any]) -> None:
        varied = [override(key, value) for key, value in chosen.items()]
        # Named by what is tried, not by Tune's trial id: a restarted trial finds its finished stages.
        name = hashlib.blake2b("\n".join([*fixed, *varied]).encode(), digest_size=8).hexdigest()

        def report(numbers: Mapping[str, float]) -> None:
            tune.report(dict(numbers))

        report(objective([*fixed, *varied], str(Path(folders) / name), report))

    return run_trial


def _trial(result: tune.Result, space: Space) -> Trial:
    numbers = result.metrics or {}
    value = numbers.get(space.metric)
    own = {k: float(v) for k, v in numbers.items() if k not in _TUNES_OWN and isinstance(v, int | float)}
    error = str(result.error).strip().splitlines() if result.error else []
    return Trial(
        parameters=dict(result.config or {}),
        value=None if value is None or result.error else float(value),
        metrics=own,
        seconds=float(numbers.get("time_total_s", 0.0)),
        error=error[-1] if error else "",
    )


_TUNES_OWN = frozenset(
    {
        "timestamp",
        "done",
        "training_iteration",
        "time_this_iter_s",
        "time_total_s",
        "pid",
        "time_since_restore",
        "iterations_since_restore",
        "should_checkpoint",
    }
)


def _claim(root: Path, space: Space, seed: int) -> None:
    digest = hashlib.sha256(f"{space.model_dump_json()} {seed}".encode()).hexdigest()
    path = root / _SPACE_FILE
    try:
        root.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_text("utf-8") != digest:
            raise OutputError(
                f"{root} holds the results of another space or seed", "choose another --out, or remove it"
            )
        path.write_text(digest, "utf-8")
    except OSError as err:
        raise OutputError(f"{root}: cannot be written ({err})", "choose a folder you may write to") from None
