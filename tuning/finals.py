"""After the search: the finalists and the default over seeds, then one look at the test set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tuning.objective import trained_model
from tuning.space import Value, configure, override
from tuning.summary import Trial
from tuning.sweep import Sweep
from xalign_dist.config import EncoderConfig
from xalign_dist.evaluation.compare import compare_seeds
from xalign_dist.pipeline.context import RunContext
from xalign_dist.pipeline.corpus import Corpus
from xalign_dist.pipeline.evaluate import evaluate_models, run_suite
from xalign_dist.pipeline.rundir import write_json

DEFAULT, BEST = "default", "best"
_TEST_FILE = "test.json"


@dataclass(frozen=True, slots=True)
class Contender:
    """Settings over seeds.

    Attributes:
        name: :data:`DEFAULT`, or the trial's name.
        parameters: what the search had chosen; empty for the default.
        values: the deciding metric, one per seed that ended.
        folders: of the trials behind ``values``.
    """

    name: str
    parameters: dict[str, Value]
    values: list[float] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Over the seeds; None for one."""
        return stdev(self.values) if len(self.values) > 1 else None


def contest(
    sweep: Sweep, ranked: Sequence[Trial], prepare: Callable[[int], None] | None = None
) -> list[Contender]:
    """The best trials and the default, each with every seed; the best mean first.

    ``prepare`` is called before with each further seed that a trial will run under.

    Only contenders with all seeds are compared by their means: one that the budget cut short
    would win or lose by the luck of fewer seeds. The default is always in, last of equals.
    """
    space = sweep.space
    chosen = [t for t in ranked if t.value is not None and t.ended][: space.finalists]
    asked = [(t.name, t.parameters) for t in chosen] + [(DEFAULT, {})]
    plans = [_with_seeds(sweep, parameters) for _, parameters in asked]
    runs = {n for plan in plans for n, point in enumerate(plan) if n and sweep.known(point) is None}
    if prepare is not None:
        for n in sorted(runs):
            prepare(sweep.seed + n)
    sweep.points("seeds", [point for plan in plans for point in plan])
    found = []
    for (name, parameters), plan in zip(asked, plans, strict=True):
        trials = [t for t in map(sweep.known, plan) if t is not None and t.value is not None]
        values = [t.value for t in trials if t.value is not None]
        if len(values) == len(plan):
            found.append(Contender(name, parameters, values, [sweep.lane.folder(t.name) for t in trials]))
    sign = -1.0 if space.mode == "max" else 1.0
    return sorted(found, key=lambda c: (sign * c.mean, c.name == DEFAULT))


def _with_seeds(sweep: Sweep, parameters: Mapping[str, Value]) -> list[list[str]]:
    """The point under every seed; the first is that of the search, whose trial is there already."""
    point = sweep.lane.overrides(dict(parameters))
    return [point + ([override("seed", sweep.seed + n)] if n else []) for n in range(sweep.space.seeds)]


def test_once(
    context: RunContext, corpus: Corpus, base: Mapping[str, Any], contenders: Sequence[Contender], out: Path
) -> list[dict[str, Any]]:
    """The winner against the default on the test set, over their seeds; rows of ``compare_seeds``.

    Looked at once: the result stays in ``out``/test.json for as long as the winner is the same.
    Empty: the default itself won, or one of the two is missing.
    """
    named = {c.name: c for c in contenders}
    if not contenders or contenders[0].name == DEFAULT or DEFAULT not in named:
        return []
    winner, default = contenders[0], named[DEFAULT]
    folders = {BEST: winner.folders, DEFAULT: default.folders}
    path = out / _TEST_FILE
    if path.exists():
        before = json.loads(path.read_text("utf-8"))
        if before["folders"] == folders:
            return list(before["comparisons"])
    config = context.config
    suite = run_suite(config, corpus, context.run.root)
    results = []
    for n in range(len(winner.folders)):
        models = {BEST: _model(base, winner, n), DEFAULT: _model(base, default, n)}
        seed, rounds = config.seed + n, config.rounds.count
        results.append(evaluate_models(models, suite, config, context.resources, seed, rounds))
    rows = [r.to_json() for r in compare_seeds(results, BEST, [DEFAULT], config.evaluation, config.seed)]
    write_json(path, {"schema": 1, "folders": folders, "comparisons": rows})
    return rows


def _model(base: Mapping[str, Any], contender: Contender, n: int) -> EncoderConfig:
    overrides = [override(key, value) for key, value in contender.parameters.items()]
    return EncoderConfig(model=trained_model(contender.folders[n], configure(base, overrides, "finalist")))


def to_json(contenders: Sequence[Contender]) -> list[dict[str, Any]]:
    """For trials.json."""
    return [{**asdict(c), "mean": c.mean, "deviation": c.deviation} for c in contenders]
