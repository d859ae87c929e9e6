"""A space in Tune's words: domains, searchers, schedulers."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, SearchAlgorithm, Searcher

from tuning.bohb import BohbSearch
from tuning.space import Parameter, Space
from xalign_dist.errors import DependencyError

_BRACKETS = 3


def param_space(space: Space) -> dict[str, Any]:
    """The space keyed by dotted setting; empty for bohb, which draws by itself."""
    if space.search == "bohb":
        return {}
    return {key: _domain(parameter, space.search == "grid") for key, parameter in space.parameters.items()}


def _domain(parameter: Parameter, grid: bool) -> Any:
    if parameter.grid is not None:
        return tune.grid_search(list(parameter.grid)) if grid else tune.choice(list(parameter.grid))
    if parameter.choice is not None:
        return tune.choice(list(parameter.choice))
    if parameter.uniform is not None:
        return tune.uniform(*parameter.uniform)
    assert parameter.loguniform is not None
    return tune.loguniform(*parameter.loguniform)


def searcher(space: Space, seed: int, concurrent: int) -> Searcher | SearchAlgorithm:
    """What proposes trials.

    Raises:
        DependencyError: optuna is not installed.
    """
    if space.search in ("grid", "random"):
        return BasicVariantGenerator(max_concurrent=concurrent, random_state=seed)
    if space.search == "bohb":
        search: Searcher = BohbSearch(space.parameters, space.metric, space.mode, seed)
    else:
        search = _optuna(seed)
    return ConcurrencyLimiter(search, max_concurrent=concurrent)


def _optuna(seed: int) -> Searcher:
    try:
        import optuna
    except ImportError as err:
        raise DependencyError(
            "--search optuna needs the package optuna", "pip install 'xalign_dist[sweep]'"
        ) from err
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(sampler=optuna.samplers.TPESampler(seed=seed))


def scheduler(space: Space) -> TrialScheduler:
    """What stops the weaker trials early."""
    if space.search != "bohb" and space.scheduler == "none":
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="training_iteration",
        max_t=space.reports,
        grace_period=1,
        reduction_factor=space.asha_keep,
        brackets=_brackets(space) if space.search == "bohb" else 1,
    )


def _brackets(space: Space) -> int:
    """As many as there are rungs, three at most: a bracket without a rung would stop nothing."""
    rungs, reach = 0, 1.0
    while reach < space.reports:
        rungs, reach = rungs + 1, reach * space.asha_keep
    return max(1, min(_BRACKETS, rungs))
