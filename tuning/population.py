"""Population based training (Jaderberg et al. 2017): who goes on, who is replaced, by what settings.

The population is kept in step: all lines finish round k, then the weakest quarter give way to
copies of the strongest with perturbed settings, then round k+1 begins. Every choice comes from
(seed, round) and what the lines reported, and is written down before anyone acts on it: a sweep
does the same however many lines run at a time, and goes on after its driver is killed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuning.records import trial_name
from tuning.space import Parameter, Space, Value

QUANTILE = 0.25
"""The share that is replaced after a round, and the share that it goes on from."""
_RESAMPLE = 0.25
_FACTORS = (0.8, 1.2)


@dataclass(frozen=True, slots=True)
class Taken:
    """Line ``loser`` of slot ``slot`` gives way to a copy of ``donor`` with other settings."""

    slot: int
    loser: str
    donor: str
    chosen: dict[str, Value]


def first_settings(space: Space, seed: int) -> list[dict[str, Value]]:
    """Settings of every line at the start: a grid's product, or draws."""
    rng = np.random.default_rng([seed, 0])
    lists = {
        key: p.grid for key, p in space.parameters.items() if p.grid is not None and space.search == "grid"
    }
    if space.search == "grid":
        cells = [dict(zip(lists, c, strict=True)) for c in itertools.product(*lists.values())]
        held: list[dict[str, Value]] = [cell for _ in range(space.samples) for cell in cells]
    else:
        held = [{} for _ in range(space.samples)]
    return [{k: h[k] if k in h else draw(p, rng) for k, p in space.parameters.items()} for h in held]


def draw(parameter: Parameter, rng: np.random.Generator) -> Value:
    """A value anywhere in the parameter's range."""
    values = parameter.grid or parameter.choice
    if values is not None:
        return values[int(rng.integers(len(values)))]
    if parameter.uniform is not None:
        return float(rng.uniform(*parameter.uniform))
    assert parameter.loguniform is not None
    low, high = parameter.loguniform
    return _within(math.exp(rng.uniform(math.log(low), math.log(high))), (low, high))


def perturbed(
    parameters: Mapping[str, Parameter], chosen: Mapping[str, Value], rng: np.random.Generator
) -> dict[str, Value]:
    """Each setting drawn anew with probability 0.25; else a number times 0.8 or 1.2, held within its
    bounds, and a value of a list gives way to a neighbour of it."""
    return {key: _moved(p, chosen[key], rng) for key, p in parameters.items()}


def _moved(parameter: Parameter, value: Value, rng: np.random.Generator) -> Value:
    if rng.random() < _RESAMPLE:
        return draw(parameter, rng)
    up = int(rng.integers(2))
    values = parameter.grid or parameter.choice
    if values is not None:
        at = values.index(value) + (1 if up else -1)
        return values[min(max(at, 0), len(values) - 1)]
    bounds = parameter.uniform or parameter.loguniform
    assert bounds is not None
    assert isinstance(value, int | float)
    return _within(value * _FACTORS[up], bounds)


def _within(value: float, bounds: tuple[float, float]) -> float:
    return float(min(max(value, bounds[0]), bounds[1]))


def takeovers(
    space: Space,
    lines: Sequence[tuple[str, float | None, Mapping[str, Value]]],
    seed: int,
    after: int,
) -> list[Taken]:
    """Who is replaced after round ``after``.

    Args:
        space: its mode says what is better.
        lines: (name, value, settings) by slot; no value: the line failed, and is replaced always.
        seed: of the sweep.
        after: the round that all have finished.
    """
    rng = np.random.default_rng([seed, after])
    sign = -1.0 if space.mode == "max" else 1.0
    sound = [(sign * value, slot) for slot, (_, value, _) in enumerate(lines) if value is not None]
    ranked = [slot for _, slot in sorted(sound)]
    if not ranked:
        return []
    failed = [slot for slot, (_, value, _) in enumerate(lines) if value is None]
    quarter = math.ceil(QUANTILE * len(lines))
    top = ranked[:quarter]
    # Never one of the top: they are what the others go on from.
    weak = ranked[max(quarter, len(ranked) - max(0, quarter - len(failed))) :]
    taken = []
    for slot in sorted(failed + weak):
        donor = lines[top[int(rng.integers(len(top)))]]
        taken.append(Taken(slot, lines[slot][0], donor[0], perturbed(space.parameters, donor[2], rng)))
    return taken


def line_name(slot: int, overrides: Sequence[str], lineage: Sequence[Mapping[str, Any]]) -> str:
    """Of settings and where they came in: equal settings of two lines are two lines."""
    past = [f"{step['donor']} after round {step['round']}" for step in lineage]
    return trial_name([f"line {slot}", *past, *overrides])
