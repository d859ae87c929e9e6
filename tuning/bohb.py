"""BOHB's model (Falkner, Klein & Hutter 2018): densities of good and bad settings, as a Tune searcher."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from tuning.space import Parameter, Value

_GOOD_SHARE = 0.15
_CANDIDATES = 64
_RANDOM_SHARE = 1 / 3
_WIDEN = 3.0
_LEAST_WIDTH = 1e-3


class BohbSearch(Searcher):
    """Draws settings where good trials are dense and bad ones are not.

    Trials are compared at the largest budget (number of reports) that enough of them have reached:
    at least dimensions + 2. Until then, and for a third of the trials always, draws are random.
    Numbers are taken to [0, 1] (in the logarithm for ``loguniform``), choices to their index; a
    kernel is Gaussian for the one and Aitchison-Aitken for the other, with Scott's bandwidth. A
    candidate is a good trial moved by its kernel, three times widened; of 64 the one with the
    largest ratio of good to bad density is taken.

    The early stopping that belongs to BOHB is asynchronous HyperBand (:mod:`tuning.algorithms`),
    which needs no trial to be paused.

    Args:
        parameters: what varies.
        metric: the number that decides.
        mode: ``max`` or ``min``.
        seed: of the draws.
    """

    def __init__(self, parameters: Mapping[str, Parameter], metric: str, mode: str, seed: int) -> None:
        super().__init__(metric=metric, mode=mode)
        self.parameters = dict(parameters)
        self.rng = np.random.default_rng(seed)
        self.asked: dict[str, np.ndarray] = {}
        self.seen: dict[int, dict[str, float]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Settings of the next trial."""
        best = self._observed()
        point = self._random() if best is None or self.rng.random() < _RANDOM_SHARE else self._model(best)
        self.asked[trial_id] = point
        return {k: self._value(p, x) for (k, p), x in zip(self.parameters.items(), point, strict=True)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A report on the way."""
        self._observe(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The last report; nothing of a failed trial."""
        if result is not None and not error:
            self._observe(trial_id, result)

    def save(self, checkpoint_path: str) -> None:
        """For a restart of the driver: JSON."""
        state = {
            "rng": self.rng.bit_generator.state,
            "asked": {trial: point.tolist() for trial, point in self.asked.items()},
            "seen": {str(rung): values for rung, values in self.seen.items()},
        }
        Path(checkpoint_path).write_text(json.dumps(state), "utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """What :meth:`save` wrote."""
        state = json.loads(Path(checkpoint_path).read_text("utf-8"))
        self.rng.bit_generator.state = state["rng"]
        self.asked = {trial: np.array(point) for trial, point in state["asked"].items()}
        self.seen = {int(rung): values for rung, values in state["seen"].items()}

    def _observe(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id in self.asked and not math.isnan(result.get(self.metric, math.nan)):
            sign = 1.0 if self.mode == "max" else -1.0
            rung = int(result.get("training_iteration", 1))
            self.seen.setdefault(rung, {})[trial_id] = sign * float(result[self.metric])

    def _observed(self) -> list[str] | None:
        """Trials of the largest budget with enough of them, the best first."""
        for rung in sorted(self.seen, reverse=True):
            if len(self.seen[rung]) >= len(self.parameters) + 2:
                return sorted(self.seen[rung], key=lambda t: (-self.seen[rung][t], t))
        return None

    def _random(self) -> np.ndarray:
        options = [_choices(parameter) for parameter in self.parameters.values()]
        return np.array([self.rng.integers(n) if n else self.rng.random() for n in options], dtype=float)

    def _model(self, ranked: list[str]) -> np.ndarray:
        least = len(self.parameters) + 1
        count = min(max(least, math.ceil(_GOOD_SHARE * len(ranked))), len(ranked) - 1)
        points_ND = np.stack([self.asked[t] for t in ranked])
        good_ND, bad_ND = points_ND[:count], points_ND[count:]
        widths_D = _bandwidths(good_ND)
        drawn_CD = np.stack(
            [self._moved(good_ND[self.rng.integers(count)], widths_D) for _ in range(_CANDIDATES)]
        )
        ratio_C = self._log_density(drawn_CD, good_ND) - self._log_density(drawn_CD, bad_ND)
        return np.asarray(drawn_CD[int(np.argmax(ratio_C))])

    def _moved(self, point_D: np.ndarray, widths_D: np.ndarray) -> np.ndarray:
        out = point_D.copy()
        for i, parameter in enumerate(self.parameters.values()):
            options, width = _choices(parameter), float(widths_D[i])
            if not options:
                out[i] = np.clip(self.rng.normal(point_D[i], _WIDEN * width), 0.0, 1.0 - 1e-12)
            elif self.rng.random() < min(0.5, width):
                out[i] = self.rng.integers(options)
        return out

    def _log_density(self, at_CD: np.ndarray, points_ND: np.ndarray) -> np.ndarray:
        widths_D = _bandwidths(points_ND)
        log_CN = np.zeros((len(at_CD), len(points_ND)))
        for i, parameter in enumerate(self.parameters.values()):
            options, width = _choices(parameter), float(widths_D[i])
            apart_CN = at_CD[:, i, None] - points_ND[None, :, i]
            if options:
                width = min(0.5, width)
                log_CN += np.log(np.where(apart_CN == 0, 1 - width, width / max(1, options - 1)))
            else:
                log_CN += -0.5 * (apart_CN / width) ** 2 - math.log(width)
        return np.asarray(np.logaddexp.reduce(log_CN, axis=1) - math.log(len(points_ND)))

    def _value(self, parameter: Parameter, x: float) -> Value:
        options = parameter.grid or parameter.choice
        if options is not None:
            return options[int(x)]
        low, high = parameter.uniform or parameter.loguniform or (0.0, 1.0)
        if parameter.loguniform is not None:
            return float(low * (high / low) ** x)
        return float(low + (high - low) * x)


def _choices(parameter: Parameter) -> int:
    """Number of options; 0: a number."""
    return len(parameter.grid or parameter.choice or ())


def _bandwidths(points_ND: np.ndarray) -> np.ndarray:
    count, dimensions = points_ND.shape
    spread_D = points_ND.std(axis=0, ddof=1) if count > 1 else np.full(dimensions, 0.3)
    return np.asarray(np.maximum(_LEAST_WIDTH, spread_D * count ** (-1 / (dimensions + 4))))
