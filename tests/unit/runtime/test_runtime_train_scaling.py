"""Workers and reservations never take the whole cluster; training without Ray works."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from training_world import tiny_job

from xalign_dist.config import DeepSpeedConfig, RuntimeConfig
from xalign_dist.errors import ConfigError
from xalign_dist.runtime.demand import training_demand
from xalign_dist.runtime.train import scaling, train


@pytest.mark.parametrize(
    ("settings", "cluster", "workers", "each"),
    [
        ({}, {"CPU": 2.0}, 1, {"CPU": 1.0}),
        ({"train_workers": 2}, {"CPU": 2.0}, 2, {"CPU": 0.5}),
        ({"train_workers": 3}, {"CPU": 1.0}, 3, {"CPU": 0.5 / 3}),
        ({"train_workers": 2, "train_workers_max": 4}, {"CPU": 16.0}, (2, 4), {"CPU": 1.0}),
        ({}, {"CPU": 16.0, "GPU": 4.0}, 4, {"CPU": 1.0, "GPU": 1.0}),
        ({"gpus_per_worker": 0}, {"CPU": 16.0, "GPU": 4.0}, 1, {"CPU": 1.0}),
        # Nodes are still to come.
        ({"train_workers": 2}, {}, 2, {"CPU": 1.0}),
        ({"train_workers": 2, "gpus_per_worker": 1}, {}, 2, {"CPU": 1.0, "GPU": 1.0}),
    ],
)
def test_scaling(settings: dict[str, Any], cluster: dict[str, float], workers: Any, each: Any) -> None:
    runtime = RuntimeConfig.model_validate(settings)
    config = scaling(runtime, training_demand(runtime, cluster))
    assert config.num_workers == workers
    assert config.resources_per_worker == pytest.approx(each)
    assert config.use_gpu == ("GPU" in each)


def test_zero_workers_train_in_this_process(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    seen: list[int] = []
    result = train(
        job, RuntimeConfig(train_workers=0), str(tmp_path / "ray"), lambda r: seen.append(r["step"])
    )
    assert seen == list(range(1, 9))
    assert result.steps == 8
    sharded = job.training.model_copy(update={"deepspeed": DeepSpeedConfig(zero_stage=2)})
    with pytest.raises(ConfigError, match="trains without DeepSpeed"):
        train(dataclasses.replace(job, training=sharded), RuntimeConfig(train_workers=0), str(tmp_path))
