from typing import get_args

import pytest

from xalign_dist.baselines.infonce import infonce_config
from xalign_dist.baselines.registry import BASELINES, baseline
from xalign_dist.config.method import EvaluationConfig
from xalign_dist.config.run import RunConfig
from xalign_dist.errors import ConfigError


def test_infonce_switches_every_adaptive_part_off_and_nothing_else():
    config = RunConfig(seed=7)
    base = infonce_config(config)
    parts = base.objective
    assert not any(
        p.enabled
        for p in (
            parts.temperature,
            parts.hardness,
            parts.false_negatives,
            parts.regulariser,
            parts.adversary,
        )
    )
    assert not base.pairs.filter_parallel
    assert not base.pairs.use_confidence_as_weight
    assert not base.pairs.use_mined
    assert base.rounds.count == 1
    untouched = (
        "seed",
        "corpora",
        "cleaning",
        "encoder",
        "scoring",
        "mining",
        "training",
        "evaluation",
        "runtime",
    )
    for name in untouched:
        assert getattr(base, name) == getattr(config, name)
    assert base.pairs.test_share == config.pairs.test_share
    RunConfig.model_validate(base.model_dump())


def test_the_temperature_is_the_runs_or_the_one_given():
    config = RunConfig()
    assert infonce_config(config).objective.temperature.fixed == config.objective.temperature.fixed
    assert infonce_config(config, 0.1).objective.temperature.fixed == 0.1


def test_every_baseline_of_the_config_is_in_the_registry():
    named = EvaluationConfig.model_fields["baselines"].annotation
    assert set(get_args(get_args(named)[0])) == set(BASELINES)
    assert baseline("infonce").trained_by is infonce_config
    assert baseline("initial").trained_by is None
    with pytest.raises(ConfigError, match="use one of: initial, infonce, static, ppmi"):
        baseline("bert")
