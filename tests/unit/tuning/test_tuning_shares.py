"""What one trial takes of the cluster, how many run at once, and what a budget is counted in."""

from __future__ import annotations

from typing import Any

import pytest

from tuning.shares import limits, trial_runtime, with_gpus
from tuning.space import Space
from tuning.sweep import Limits
from xalign_dist.config import RunConfig
from xalign_dist.errors import ConfigError
from xalign_dist.runtime.demand import Group
from xalign_dist.runtime.resources import Resources

POOL = "xalign/pool"
DATA = Group("data", {"CPU": 16.0}, {POOL: "data"}, 8, grows=True)
TRAIN = Group("train", {"CPU": 96.0, "GPU": 8.0}, {POOL: "train"}, 2, grows=True)
SPOT = Group("spot", {"CPU": 48.0, "GPU": 4.0}, {POOL: "spot"}, 4, grows=True)

LAPTOP = Resources(8, 0, 1, 1)
ONE_GPU, TWO_GPUS = Resources(16, 1, 1, 1), Resources(16, 2, 1, 1)
CPU_CLUSTER = Resources(16, 0, 1, 1, (DATA,))
AT_REST = Resources(16, 0, 1, 1, (DATA, TRAIN, SPOT))


def _space(**changes: Any) -> Space:
    grid = {"training.batch_pairs": {"grid": list(range(8, 108))}}
    return Space.model_validate({"parameters": grid, **changes})


def _settings(**runtime: Any) -> RunConfig:
    return RunConfig.model_validate(
        {"encoder": {"model": "builtin:e5-small?layers=1"}, "runtime": {"max_failures": 3, **runtime}}
    )


def _limits(resources: Resources, space: Space, settings: RunConfig) -> Limits:
    return limits(space, settings, with_gpus(space, settings, resources))


def test_a_trial_on_cpus_runs_as_the_config_says_two_cpus_each() -> None:
    assert trial_runtime(_space(), _settings(), LAPTOP) == {}
    assert _limits(LAPTOP, _space(), _settings()) == Limits(4, None, 2.0, 3)
    assert _limits(Resources(1, 0, 1, 1), _space(), _settings()).concurrent == 1


def test_trials_of_a_small_encoder_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    quarter = {"gpus_per_worker": 0.25, "train_workers": 1, "embed_actors": 1}
    assert trial_runtime(_space(), _settings(), TWO_GPUS) == quarter
    # A larger one has a GPU for itself.
    monkeypatch.setattr("tuning.shares.SMALL_PARAMETERS", 1000)
    assert _limits(TWO_GPUS, _space(), _settings()) == Limits(2, None, 1.0, 3)


def test_the_config_comes_before_the_space_and_the_space_before_the_size() -> None:
    half = _space(trial_gpus=0.5)
    assert trial_runtime(half, _settings(), ONE_GPU)["gpus_per_worker"] == 0.5
    given = _settings(gpus_per_worker=1, train_workers=2, embed_actors=3)
    assert trial_runtime(half, given, TWO_GPUS) == {
        "gpus_per_worker": 1.0,
        "train_workers": 2,
        "embed_actors": 3,
    }
    # Two workers of a GPU each: one trial at a time, charged with two.
    assert _limits(TWO_GPUS, half, given) == Limits(1, None, 2.0, 3)


def test_no_more_at_once_than_asked_or_than_there_are_trials() -> None:
    settings = _settings(gpus_per_worker=0.25)
    few = _space(parameters={"training.batch_pairs": {"grid": [8, 16, 32]}})
    assert _limits(TWO_GPUS, few, settings).concurrent == 3
    assert _limits(TWO_GPUS, _space(max_concurrent=5), settings).concurrent == 5


def test_gpu_hours_on_a_cluster_whose_gpu_groups_are_at_zero() -> None:
    paid = _space(budget="20gpuh")
    # All that the groups may have: 2 x 8 and 4 x 4, four trials to a GPU, of which there are a hundred.
    assert _limits(AT_REST, paid, _settings()) == Limits(100, 20.0, 0.25, 3)
    whole = _settings(gpus_per_worker=1)
    assert _limits(AT_REST, paid, whole) == Limits(32, 20.0, 1.0, 3)
    # Trials train on the nodes that the config names.
    spot = _settings(gpus_per_worker=1, node_labels={POOL: "spot"})
    assert _limits(AT_REST, paid, spot).concurrent == 16
    assert _limits(AT_REST, _space(), spot) == Limits(16, None, 1.0, 3)
    assert _limits(AT_REST, _space(trial_gpus=0.5), _settings()).concurrent == 64
    some = Resources(112, 8, 2, 1, AT_REST.groups)
    assert _limits(some, paid, whole).concurrent == 32


def test_nobody_asked_for_gpus_so_none_are_started() -> None:
    assert with_gpus(_space(), _settings(), AT_REST) == AT_REST
    assert _limits(AT_REST, _space(budget="3.5cpuh"), _settings()) == Limits(8, 3.5, 2.0, 3)


@pytest.mark.parametrize("cluster", [LAPTOP, CPU_CLUSTER])
def test_gpu_hours_on_cpus_are_refused(cluster: Resources) -> None:
    for settings in (_settings(), _settings(gpus_per_worker=1)):
        with pytest.raises(ConfigError, match=r"20gpuh, but the cluster has no GPU\n.*20cpuh"):
            _limits(cluster, _space(budget="20gpuh"), settings)


def test_a_trial_that_fits_on_no_gpus_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a trial asks for 4 GPUs and the cluster has 2\n.*train_workers"):
        _limits(TWO_GPUS, _space(), _settings(gpus_per_worker=1, train_workers=4))
    large = _settings(gpus_per_worker=1, train_workers=20, node_labels={POOL: "train"})
    with pytest.raises(ConfigError, match=r"20 GPUs and the cluster has 16\n"):
        _limits(AT_REST, _space(), large)
