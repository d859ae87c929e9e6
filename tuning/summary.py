"""What a sweep found: a table of trials, and the best one as a config to run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tuning.space import Space, Value, configure, override
from xalign_dist.config import dump_config
from xalign_dist.errors import OutputError, StageError


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial.

    Attributes:
        parameters: what varied, dotted setting -> value.
        value: the deciding metric; None: the trial failed or reported none.
        metrics: the last numbers it reported.
        seconds: wall time.
        error: first line of what went wrong; empty: nothing.
        name: of its record and its folder.
        ended: False: it was stopped before its end.
        replaced: of a population: after which round, by which trial; empty: it was not.
        schedule: settings by round where they changed on the way (population based training):
            ``from`` (a round), ``parameters``, ``trial``; empty: they did not.
    """

    parameters: dict[str, Value]
    value: float | None
    metrics: dict[str, float]
    seconds: float
    error: str = ""
    name: str = ""
    ended: bool = True
    replaced: str = ""
    schedule: list[dict[str, Any]] = field(default_factory=list)

    @property
    def note(self) -> str:
        """What a reader of the table has to know."""
        return "; ".join(filter(None, [self.error, self.replaced])) or ("" if self.ended else "stopped early")


def best_first(trials: Sequence[Trial], mode: str) -> list[Trial]:
    """Trials by value, the best first; those stopped early after those that ended, those without a
    value last. Ties keep their order."""
    sign = -1.0 if mode == "max" else 1.0
    return sorted(
        trials, key=lambda t: (t.value is None, not t.ended, 0.0 if t.value is None else sign * t.value)
    )


def write_summary(
    trials: Sequence[Trial],
    space: Space,
    base: Mapping[str, Any] | None,
    out: Path,
    *,
    winner: Mapping[str, Value] | None = None,
    more: Mapping[str, Any] | None = None,
) -> list[Trial]:
    """Write trials.json, trials.md and best.yaml into ``out``; returns the trials, best first.

    best.yaml is the whole config of the best trial: `xalign run best.yaml` runs it.

    Args:
        trials: of the search.
        space: what was searched.
        base: the config that was varied.
        out: folder.
        winner: parameters that won among the finalists; None: those of the best trial.
        more: further keys of trials.json.

    Raises:
        StageError: no trial ended with a value.
        OutputError: ``out`` cannot be written.
    """
    ranked = best_first(trials, space.mode)
    rows = {
        "schema": 1,
        "metric": space.metric,
        "mode": space.mode,
        "parameters": {key: p.model_dump(exclude_none=True) for key, p in space.parameters.items()},
        "trials": [asdict(t) for t in ranked],
        **(more or {}),
    }
    _write(out / "trials.json", json.dumps(rows, indent=2, sort_keys=True))
    _write(out / "trials.md", table(ranked, space))
    if not ranked or ranked[0].value is None:
        reason = next((t.error for t in ranked if t.error), "no trial reported it")
        raise StageError(
            f"no trial of {len(ranked)} gave a value of {space.metric}: {reason}",
            f"see {out / 'trials.json'}; mend the cause and start the same command again",
        )
    chosen = {**space.fixed, **(ranked[0].parameters if winner is None else winner)}
    config = configure(base, [override(k, v) for k, v in chosen.items()], "best trial")
    _write(out / "best.yaml", dump_config(config))
    return ranked


def table(ranked: Sequence[Trial], space: Space) -> str:
    """The trials as a Markdown table."""
    keys = list(space.parameters)
    lines = [
        f"| {' | '.join([space.metric, *keys, 'seconds', 'note'])} |",
        f"|{'---|' * (len(keys) + 3)}",
    ]
    for trial in ranked:
        value = "-" if trial.value is None else f"{trial.value:.4f}"
        cells = [value, *(_short(trial.parameters.get(k)) for k in keys), f"{trial.seconds:.0f}", trial.note]
        lines.append(f"| {' | '.join(c.replace('|', '/') for c in cells)} |")
    return "\n".join(lines) + "\n"


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, "utf-8")
        aside.replace(path)
    except OSError as err:
        raise OutputError(f"{path}: cannot be written ({err})", "choose a folder you may write to") from None
