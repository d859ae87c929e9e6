"""A training's figures to MLflow and Weights & Biases, as far as they are configured."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from xalign_dist.config.tracking import TrackingConfig
from xalign_dist.errors import DependencyError, ResourceError
from xalign_dist.training.job import TrainJob

_log = logging.getLogger(__name__)

_TAG = "xalign.job"
#: MLflow takes so many metrics, or parameters, at once.
_METRICS_AT_ONCE, _PARAMETERS_AT_ONCE, _LONGEST_VALUE = 1000, 100, 500


class Tracker(Protocol):
    """A service that is told figures and parameters of one training."""

    def log(self, records: Sequence[Mapping[str, float]]) -> None:
        """Take in the figures of some steps; ``step`` is among them."""
        ...

    def close(self, failed: bool) -> None:
        """The training has ended."""
        ...


class Trackers:
    """All configured trackers as one. What fails on the way is switched off with a warning, once.

    A continued training goes on in the same MLflow or W&B run, which it finds by ``job``.
    """

    def __init__(
        self, config: TrackingConfig, job: str, name: str, parameters: Mapping[str, Any], folder: str
    ) -> None:
        """Open what is configured.

        Args:
            config: the tracking section.
            job: what tells this training from all others, the same when it is continued.
            name: of the run, for people.
            parameters: settings as nested mappings.
            folder: where W&B keeps its files until they are sent.

        Raises:
            DependencyError: a package is missing.
            ResourceError: a service cannot be reached, or has no token.
        """
        self._every = config.every
        self._waiting: list[dict[str, float]] = []
        self._open: list[tuple[str, Tracker]] = []
        flat = dict(_flat(parameters, ""))
        key = hashlib.sha256(job.encode()).hexdigest()[:16]
        if config.mlflow is not None:
            self._open.append(("MLflow", _MLflow(config, key, name, flat)))
        if config.wandb is not None:
            self._open.append(("Weights & Biases", _Wandb(config, key, name, flat, folder)))

    def write(self, record: Mapping[str, Any]) -> None:
        """Take in one step's figures; numbers that are not finite are left out."""
        if not self._open:
            return
        self._waiting.append({k: float(v) for k, v in record.items() if math.isfinite(float(v))})
        if len(self._waiting) >= self._every:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        records, self._waiting = self._waiting, []
        for name, tracker in list(self._open) if records else ():
            try:
                tracker.log(records)
            except Exception as err:  # a service of others must not end the training
                self._open.remove((name, tracker))
                _log.warning(
                    "%s failed at step %d and gets no more figures (%s); all are in the telemetry file",
                    *(name, int(records[-1]["step"]), type(err).__name__),
                )

    def close(self, failed: bool = False) -> None:
        """Send the rest and end the runs. Safe to call twice."""
        self.flush()
        for name, tracker in self._open:
            try:
                tracker.close(failed)
            except Exception as err:  # as above
                _log.warning("%s did not close (%s)", name, type(err).__name__)
        self._open = []


#: Opens trackers that may keep their files in a local folder.
OpenTrackers = Callable[[str], Trackers]


def telemetry_file(job: TrainJob) -> str:
    """Where the figures of ``job`` are written."""
    return job.telemetry or f"{job.work}/telemetry.jsonl"


def trackers_of(job: TrainJob) -> OpenTrackers:
    """Opens the trackers of ``job``; the slices of one schedule, which share their telemetry, share them."""
    file = telemetry_file(job)
    parameters = {
        **{"model": job.model, "seed": job.seed, "steps": job.total_steps},
        **{"sampling_temperature": job.sampling_temperature, "encoder": job.encoder.model_dump()},
        **{"training": job.training.model_dump(), "objective": job.objective.model_dump()},
    }
    name = file.rpartition("/")[2].removesuffix(".jsonl")
    return partial(Trackers, job.tracking, f"{file} {parameters}", name, parameters)


class _MLflow:
    def __init__(self, config: TrackingConfig, key: str, name: str, parameters: Mapping[str, str]) -> None:
        try:
            import mlflow
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise DependencyError(
                "tracking.mlflow needs mlflow",
                "pip install 'xalign_dist[tracking]', or set tracking.mlflow=null",
            ) from None
        self._metric = Metric
        if str(config.mlflow).startswith(("file:", "/", ".")):
            # mlflow 3 writes to a folder only after this word; who names a folder wants just that.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        try:
            self._client = mlflow.MlflowClient(config.mlflow)
            found = self._client.get_experiment_by_name(config.experiment)
            experiment = (
                self._client.create_experiment(config.experiment) if found is None else found.experiment_id
            )
            runs = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{key}'", max_results=1)
            if runs:
                self._run = runs[0].info.run_id
                self._client.set_terminated(self._run, "RUNNING")
                return
            self._run = self._client.create_run(experiment, tags={_TAG: key}, run_name=name).info.run_id
            settings = [Param(k, v) for k, v in parameters.items()]
            for start in range(0, len(settings), _PARAMETERS_AT_ONCE):
                self._client.log_batch(self._run, params=settings[start : start + _PARAMETERS_AT_ONCE])
        except (MlflowException, OSError) as err:
            raise ResourceError(
                f"tracking.mlflow: {config.mlflow} does not take the run ({type(err).__name__})",
                "check the URI and MLFLOW_TRACKING_TOKEN in the workers' environment, or set "
                "tracking.mlflow=null",
            ) from err

    def log(self, records: Sequence[Mapping[str, float]]) -> None:
        now = int(time.time() * 1000)
        points = [
            self._metric(key, value, now, int(record["step"]))
            for record in records
            for key, value in record.items()
            if key != "step"
        ]
        for start in range(0, len(points), _METRICS_AT_ONCE):
            self._client.log_batch(self._run, metrics=points[start : start + _METRICS_AT_ONCE])

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


class _Wandb:
    def __init__(
        self, config: TrackingConfig, key: str, name: str, parameters: Mapping[str, str], folder: str
    ) -> None:
        try:
            import wandb
        except ImportError:
            raise DependencyError(
                "tracking.wandb needs wandb",
                "pip install 'xalign_dist[tracking]', or set tracking.wandb=null",
            ) from None
        try:
            self._run = wandb.init(
                project=config.wandb,
                group=config.experiment,
                id=key,
                name=name,
                mode=config.wandb_mode,
                resume="allow",
                dir=folder,
                config=dict(parameters),
                settings=wandb.Settings(silent=True, console="off", save_code=False, disable_git=True),
            )
        except (wandb.errors.Error, OSError) as err:
            raise ResourceError(
                f"tracking.wandb: Weights & Biases does not take the run ({type(err).__name__})",
                "set WANDB_API_KEY in the workers' environment, or tracking.wandb_mode=offline, or "
                "tracking.wandb=null",
            ) from err

    def log(self, records: Sequence[Mapping[str, float]]) -> None:
        for record in records:
            self._run.log({k: v for k, v in record.items() if k != "step"}, step=int(record["step"]))

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)[:_LONGEST_VALUE]
