"""The parts of the method as arms of an ablation: one that is on is taken out, one that is off put in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from xalign_dist.config import RunConfig

FULL, INFONCE = "full", "fixed InfoNCE"
_PAIRS = {
    "filter": ("pairs.filter_parallel", "pairs.use_confidence_as_weight"),
    "pseudo-labels": ("pairs.use_mined",),
}
_OBJECTIVE = {
    "dynamic temperature": ("objective.temperature.enabled",),
    "hardness": ("objective.hardness.enabled",),
    "false-negative mask": ("objective.false_negatives.enabled",),
    "regulariser": ("objective.regulariser.enabled",),
    "adversary": ("objective.adversary.enabled",),
}
COMPONENTS: Mapping[str, tuple[str, ...]] = MappingProxyType({**_PAIRS, **_OBJECTIVE})
"""Part of the method -> the settings that switch it."""


def arms(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """Arm -> settings in which it differs from ``config``, the full method, which comes first.

    "without X" of a part that is on, "with X" of one that is off; "without dynamic objective" where
    several of its parts are on; last the baseline of `xalign run`.
    """
    on = {name for name, keys in COMPONENTS.items() if any(_value(config, key) for key in keys)}
    found: dict[str, tuple[str, ...]] = {FULL: ()}
    for name in COMPONENTS:
        found[f"without {name}" if name in on else f"with {name}"] = _switched([name], name not in on)
    if len(on & _OBJECTIVE.keys()) > 1:
        found["without dynamic objective"] = _switched(_OBJECTIVE, False)
    found[INFONCE] = (*_switched(COMPONENTS, False), "rounds.count=1")
    return found


def _switched(names: Iterable[str], on: bool) -> tuple[str, ...]:
    return tuple(f"{key}={str(on).lower()}" for name in names for key in COMPONENTS[name])


def _value(config: RunConfig, key: str) -> Any:
    found: Any = config
    for name in key.split("."):
        found = getattr(found, name)
    return found
