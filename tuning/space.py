"""Search spaces as data: YAML in, checked against the settings of a run, no Ray needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from xalign_dist.config import RunConfig, parse_config
from xalign_dist.config.load import apply_override, read_yaml
from xalign_dist.errors import ConfigError

Value = bool | int | float | str | None
Values = Annotated[list[Value], Field(min_length=1)]


class Parameter(BaseModel):
    """How one setting varies. Exactly one field is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grid: Values | None = Field(None, description="Every value is tried, with all of every other grid.")
    choice: Values | None = Field(None, description="One is drawn for each trial.")
    uniform: tuple[float, float] | None = Field(None, description="Drawn evenly from [low, high).")
    loguniform: tuple[float, float] | None = Field(
        None, description="Drawn from [low, high), evenly in the logarithm; both above 0."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Parameter:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of grid, choice, uniform, loguniform (got {given or 'none'})")
        bounds = self.uniform or self.loguniform
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"low {bounds[0]:g} is not under high {bounds[1]:g}")
        if self.loguniform is not None and self.loguniform[0] <= 0:
            raise ValueError("loguniform needs bounds above 0")
        return self

    def probes(self) -> list[Value]:
        """Values whose validity stands for the whole range."""
        values = self.grid or self.choice
        return list(values) if values is not None else list(self.uniform or self.loguniform or ())


class Space(BaseModel):
    """A sweep: what varies, what is held, how long and how many at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str = Field("dev_accuracy", description="Name of the reported number that decides.")
    mode: Literal["max", "min"] = Field("max", description="Whether more or less of it is better.")
    search: Literal["grid", "random", "optuna", "bohb"] = Field(
        "grid",
        description="grid: every combination of the grids. The others draw `samples` trials, from grids too; "
        "optuna and bohb learn from the trials so far.",
    )
    samples: int = Field(
        1, ge=1, description="grid: times the grid is run through, draws differ each time. Else: trials."
    )
    max_concurrent: PositiveInt | Literal["auto"] = Field(
        "auto", description="Trials at once. auto: one per GPU share of a trial, or per two CPUs."
    )
    scheduler: Literal["none", "asha", "pbt"] = Field(
        "none",
        description="asha: stop the weaker trials early, by their reports so far. bohb brings its own "
        "(asynchronous HyperBand). pbt: after each round the weaker go on from copies of the better, with "
        "perturbed settings; with search grid or random.",
    )
    reports: int = Field(4, ge=2, description="Reports of a trial that is not stopped (asha, bohb, pbt).")
    asha_keep: float = Field(3, gt=1, description="One in so many goes on at each rung.")
    budget: str | None = Field(
        None,
        pattern=r"^\d+(\.\d+)?(gpuh|cpuh)$",
        description="What all trials may use, e.g. 20gpuh or 3.5cpuh. None: no limit.",
    )
    finalists: int = Field(3, ge=0, description="Best trials that are run with more seeds; 0: none.")
    seeds: int = Field(3, ge=1, description="Seeds of each finalist and of the default.")
    trial_gpus: float | None = Field(
        None,
        gt=0,
        description="GPU share of a trial where runtime.gpus_per_worker names none. None: a quarter for an "
        "encoder of up to 150 M parameters, else one.",
    )
    trial_cpus: float = Field(
        0.1, gt=0, description="CPUs held by a trial's driver; its stages ask for their own."
    )
    fixed: dict[str, Value] = Field(default_factory=dict, description="Settings held in every trial.")
    parameters: dict[str, Parameter] = Field(min_length=1, description="Dotted setting -> how it varies.")

    @model_validator(mode="after")
    def _apart(self) -> Space:
        both = sorted(set(self.fixed) & set(self.parameters))
        if both:
            raise ValueError(f"{', '.join(both)}: both fixed and varied")
        if "seed" in {*self.fixed, *self.parameters}:
            raise ValueError("seed: the finalists get further ones (`seeds`); set the first in the config")
        return self

    @model_validator(mode="after")
    def _worth_it(self) -> Space:
        drawn = any(p.grid is None for p in self.parameters.values())
        if self.search == "grid" and self.samples > 1 and not drawn:
            raise ValueError(
                f"samples={self.samples} runs the same grid again; set samples to 1 (seeds repeats the best)"
            )
        if self.search != "grid" and self.samples == 1:
            raise ValueError(f"search {self.search} with samples=1 is one trial; set samples to how many")
        return self

    @model_validator(mode="after")
    def _a_population(self) -> Space:
        if self.scheduler == "pbt" and self.search not in ("grid", "random"):
            raise ValueError(
                f"scheduler pbt changes settings on the way, which search {self.search} cannot learn from; "
                "set search to random or grid"
            )
        if self.scheduler == "pbt" and self.trials() < 2:
            raise ValueError("scheduler pbt needs a population; set samples to at least 2")
        return self

    def trials(self) -> int:
        """How many trials the sweep has."""
        if self.search != "grid":
            return self.samples
        grids = [len(p.grid) for p in self.parameters.values() if p.grid is not None]
        return self.samples * math.prod(grids)

    def changed(self, **settings: Any) -> Space:
        """This space with other settings, validated; None leaves one as it is.

        Raises:
            ConfigError: they contradict each other.
        """
        given = {key: value for key, value in settings.items() if value is not None}
        return _validated({**self.model_dump(), **given}, "sweep")


def load_space(path: str | Path, base: Mapping[str, Any] | None = None) -> Space:
    """Read a space and check every setting and value in it against :class:`RunConfig`.

    Args:
        path: YAML with the fields of :class:`Space`.
        base: the config that the sweep varies, as a plain mapping; None: the defaults.

    Raises:
        ConfigError: unreadable file, malformed space, unknown setting (with the nearest
            name), or a value that the setting refuses.
    """
    space = _validated(read_yaml(path), str(path))
    held = [override(key, value) for key, value in space.fixed.items()]
    _acts(space, configure(base, held, str(path)), str(path))
    for key, parameter in space.parameters.items():
        for value in parameter.probes():
            configure(base, [*held, override(key, value)], str(path))
    return space


def _acts(space: Space, config: RunConfig, origin: str) -> None:
    """Refuse to vary the numbers of a part that is off: every trial would be the same."""
    for key in space.parameters:
        section, _, name = key.rpartition(".")
        switch = f"{section}.enabled"
        off = reduce(lambda part, n: getattr(part, n, None), switch.split("."), cast(Any, config)) is False
        if off and switch not in space.parameters and name not in ("enabled", "fixed"):
            raise ConfigError(
                f"{origin}: {key} has no effect: {section} is off", f"add `{switch}: true` to `fixed`"
            )


def _validated(data: Mapping[str, Any], origin: str) -> Space:
    try:
        return Space.model_validate(data)
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "space"
        raise ConfigError(f"{origin}: {where}: {first['msg']}", f"change {where}") from None


def configure(base: Mapping[str, Any] | None, overrides: Sequence[str], origin: str) -> RunConfig:
    """``base`` with dotted overrides, validated; ``origin`` names the source in errors."""
    data: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dict(base or {})))
    for item in overrides:
        apply_override(data, item)
    return parse_config(data, origin=origin)


def override(key: str, value: Value) -> str:
    """``key=value`` as the command line takes it.

    Floats are written out in full: YAML 1.1 reads ``1e-05`` as a string.
    """
    if isinstance(value, float):
        return f"{key}={_decimal(value)}"
    return f"{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"


def _decimal(value: float) -> str:
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"
