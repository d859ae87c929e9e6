"""Ray Tune over a function: dotted overrides in, numbers out, resumable by the same command."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from tuning import algorithms
from tuning.guard import BUDGET, Guard, arm, read_state
from tuning.lines import Population, Stages, leg
from tuning.losses import Losses
from tuning.records import Record, Records, trial_name
from tuning.space import Space, override
from tuning.summary import Trial
from tuning.trial import LINE, NAME, POINT, ROUND, Lane, Objective, Report, point, trainable
from xalign_dist.errors import ConfigError, DependencyError, OutputError

__all__ = ["Limits", "Objective", "Report", "Sweep"]

_SPACE_FILE, _GUARD_FILE = "space.sha256", "guard.json"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once, and how much in all.

    Attributes:
        concurrent: trials at once.
        hours: unit-hours (of GPUs or CPUs) that all trials may use; None: no limit.
        rate: units that one running trial uses.
        retries: of a trial whose process or node is lost.
    """

    concurrent: int = 1
    hours: float | None = None
    rate: float = 1.0
    retries: int = 2


class Sweep:
    """The trials of one space under one folder.

    Ray is joined if the process is connected, and started by Tune if not. What a trial found is in
    its record (:mod:`tuning.records`), so a driver that was killed goes on by the same call: Tune
    takes up its own books, and a trial that ended is not run again even where those lag behind.

    Args:
        space: from :func:`tuning.space.load_space`.
        objective: must be picklable; runs in a process of its own.
        out: folder that every trial sees: records, trial folders, Tune's own state.
        seed: of the draws.
        limits: concurrency and budget.
        mlflow: tracking URI to which every trial goes as well; None: nowhere.
        stages: the objective round by round, for a space with scheduler pbt; picklable too.

    Raises:
        OutputError: ``out`` holds the results of another space.
    """

    def __init__(
        self,
        space: Space,
        objective: Objective,
        out: str,
        *,
        seed: int = 0,
        limits: Limits | None = None,
        mlflow: str | None = None,
        stages: Stages | None = None,
    ) -> None:
        self.stages = stages
        self.space, self.objective, self.seed = space, objective, seed
        self.root = Path(out).resolve()
        self.limits, self.mlflow = limits or Limits(), mlflow
        self.lane = Lane(
            space.metric,
            str(self.root / "runs"),
            str(self.root / "records"),
            [override(key, value) for key, value in space.fixed.items()],
        )
        self.ended_by = ""
        _claim(self.root, space, seed)

    def search(self) -> list[Trial]:
        """Every trial of the space, or those before :attr:`ended_by` (budget, failures).

        Raises:
            ConfigError: scheduler pbt, but no ``stages``.
        """
        if self.space.scheduler == "pbt":
            return self._population()
        config = tune.TuneConfig(
            metric=self.space.metric,
            mode=self.space.mode,
            num_samples=self.space.samples,
            scheduler=algorithms.scheduler(self.space),
            search_alg=algorithms.searcher(self.space, self.seed, self.limits.concurrent),
            reuse_actors=True,
            trial_dirname_creator=_dirname,
        )
        self._fit("trials", algorithms.param_space(self.space), config)
        return self.found()

    def found(self) -> list[Trial]:
        """Every trial of :meth:`search` so far, in the order in which they started."""
        known = Records(self.lane.records).all()
        return [_trial(name, record, self.space.metric) for name, record in known if record.chosen]

    def points(self, name: str, points: Sequence[Sequence[str]]) -> list[Trial]:
        """The trials with the given overrides, e.g. the finalists under other seeds.

        Those that were run before, by :meth:`search` too, are not run again.
        """
        known = [self.known(overrides) for overrides in points]
        missing = [point(p) for p, trial in zip(points, known, strict=True) if trial is None]
        if missing:
            self._each(name, POINT, missing)
        return [trial for trial in map(self.known, points) if trial is not None]

    def _population(self) -> list[Trial]:
        stages = self.stages
        if stages is None:
            raise ConfigError("scheduler pbt needs an objective that runs round by round", "give `stages`")
        work = leg(self.lane, stages, self.space.reports)

        def run(names: list[str], number: int) -> str:
            records = Records(self.lane.records)
            lines = [{NAME: n, **point(r.overrides)} for n in names if (r := records.read(n)) is not None]
            self._each(f"round-{number}", LINE, lines, {ROUND: number}, work)
            return self.ended_by

        Population(self.space, self.lane, self.root, self.seed, stages, run).run()
        return self.found()

    def _each(
        self,
        name: str,
        key: str,
        values: Sequence[Any],
        held: Mapping[str, Any] | None = None,
        work: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """A trial for each of ``values``, as one experiment of Tune."""
        config = tune.TuneConfig(
            metric=self.space.metric,
            mode=self.space.mode,
            max_concurrent_trials=self.limits.concurrent,
            reuse_actors=True,
            trial_dirname_creator=_dirname,
        )
        digest = hashlib.sha256(repr(values).encode()).hexdigest()[:8]
        self._fit(f"{name}-{digest}", {key: tune.grid_search(list(values)), **(held or {})}, config, work)

    def spent(self) -> float:
        """Unit-hours used so far, as the guard counted them."""
        return read_state(str(self.root / _GUARD_FILE)).spent

    def known(self, overrides: Sequence[str]) -> Trial | None:
        """What the record of a trial that ended says."""
        record = Records(self.lane.records).read(trial_name(overrides))
        if record is None or record.final is None:
            return None
        return _trial(trial_name(overrides), record, self.space.metric)

    def _fit(
        self,
        name: str,
        param_space: dict[str, Any],
        config: tune.TuneConfig,
        function: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        # Tune would move every trial into a folder of its own, and relative corpus paths would break.
        os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
        # The newer output prints its tables even at verbosity 0.
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        guard = str(self.root / _GUARD_FILE)
        failed = any(record.error for _, record in Records(self.lane.records).all())
        state = arm(guard, self.limits.hours, self.limits.rate, again=failed)
        if state.spent_all():
            self.ended_by = BUDGET
            return
        work = tune.with_resources(
            function or trainable(self.lane, self.objective), {"cpu": self.space.trial_cpus}
        )
        experiment = f"{name}-{state.epoch}"
        if tune.Tuner.can_restore(str(self.root / experiment)):
            tuner = tune.Tuner.restore(str(self.root / experiment), work, param_space=param_space)
        else:
            run = tune.RunConfig(
                name=experiment,
                storage_path=str(self.root),
                verbose=0,
                stop=Guard(guard, self.space.metric),
                callbacks=[Guard(guard, self.space.metric), Losses(), *self._loggers()],
                failure_config=tune.FailureConfig(max_failures=self.limits.retries),
            )
            tuner = tune.Tuner(work, param_space=param_space, tune_config=config, run_config=run)
        results = tuner.fit()
        # Tune has no settings of a trial lost before its first report; a population sees who is missing.
        if LINE not in param_space:
            self._note_losses(results)
        self.ended_by = read_state(guard).stopped

    def _note_losses(self, results: tune.ResultGrid) -> None:
        """A trial whose process died could not write down why."""
        records = Records(self.lane.records)
        for result in results:
            given = result.config or {}
            overrides = self.lane.overrides(given)
            name = trial_name(overrides)
            record = records.read(name) or Record(overrides, chosen=self.lane.chosen(given))
            if result.error is not None and record.final is None and not record.error:
                record.error = str(result.error).strip().splitlines()[-1]
                records.write(name, record)

    def _loggers(self) -> list[tune.Callback]:
        if self.mlflow is None:
            return []
        if importlib.util.find_spec("mlflow") is None:
            raise DependencyError(
                "tracking.mlflow needs mlflow",
                "pip install 'xalign_dist[tracking]', or set tracking.mlflow=null",
            )
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        if self.mlflow.startswith(("file:", "/", ".")):
            # mlflow 3 writes to a folder only after this word; who names a folder wants just that.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        return [MLflowLoggerCallback(tracking_uri=self.mlflow, experiment_name=self.root.name)]


def _trial(name: str, record: Record, metric: str) -> Trial:
    last = record.final or (record.reports[-1] if record.reports else {})
    return Trial(
        parameters=dict(record.chosen),
        value=None if record.error else last.get(metric),
        metrics=dict(last),
        seconds=record.seconds,
        error=record.error,
        name=name,
        ended=record.final is not None,
        replaced=record.replaced,
        schedule=_schedule(name, record),
    )


def _schedule(name: str, record: Record) -> list[dict[str, Any]]:
    """From which round on which settings held; empty: the same throughout."""
    if not record.lineage:
        return []
    starts = [1, *(step["round"] + 1 for step in record.lineage)]
    held = [(step["donor"], step["chosen"]) for step in record.lineage] + [(name, record.chosen)]
    return [{"from": s, "parameters": p, "trial": n} for s, (n, p) in zip(starts, held, strict=True)]


def _dirname(trial: tune.experiment.Trial) -> str:
    """Tune's own name lists every setting, which can be longer than a file name may be."""
    return str(trial.trial_id)


def _claim(root: Path, space: Space, seed: int) -> None:
    """What decides which trials there are has to be the same; how many at once and how long may change."""
    free = {"max_concurrent", "budget", "finalists", "seeds", "trial_cpus", "trial_gpus"}
    digest = hashlib.sha256(f"{space.model_dump_json(exclude=free)} {seed}".encode()).hexdigest()
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
