"""Our settings become DeepSpeed's; the user's JSON is merged, and what contradicts is refused."""

from __future__ import annotations

from typing import Any

import pytest

from xalign_dist.config import TrainingConfig
from xalign_dist.errors import ConfigError
from xalign_dist.runtime.deepspeed_config import deepspeed_config


def section(**changes: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(changes)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_stage_clipping_and_accumulation(stage: int) -> None:
    config = deepspeed_config(section(clip_norm=0.7, deepspeed={"zero_stage": stage}))
    assert config["zero_optimization"]["stage"] == stage
    assert config["gradient_clipping"] == (0.7 if stage else 0.0)
    assert config["managed_gradient_accumulation"] is False
    assert "optimizer" not in config


def test_fp16_and_offload() -> None:
    config = deepspeed_config(section(precision="fp16"))
    assert config["fp16"]["enabled"] is True
    assert config["zero_optimization"]["stage"] == 1
    config = deepspeed_config(section(deepspeed={"zero_stage": 2, "offload": "cpu"}))
    assert config["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    with pytest.raises(ConfigError, match="offload=cpu needs a ZeRO stage"):
        deepspeed_config(section(deepspeed={"offload": "cpu"}))


def test_extra_is_merged_deep() -> None:
    extra = {"zero_optimization": {"reduce_bucket_size": 1000}, "wall_clock_breakdown": True}
    config = deepspeed_config(section(deepspeed={"zero_stage": 2, "extra": extra}))
    assert config["zero_optimization"]["reduce_bucket_size"] == 1000
    assert config["zero_optimization"]["stage"] == 2
    assert config["wall_clock_breakdown"] is True
    native = deepspeed_config(section(deepspeed={"zero_stage": 3, "extra": {"bf16": {"enabled": True}}}))
    assert native["bf16"]["enabled"] is True


@pytest.mark.parametrize(
    ("extra", "path", "setting"),
    [
        ({"gradient_clipping": 5.0}, "gradient_clipping", "training.clip_norm"),
        ({"zero_optimization": {"stage": 3}}, "zero_optimization.stage", "training.deepspeed.zero_stage"),
        ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps", "training.chunk_pairs"),
        ({"fp16": {"enabled": True}}, "fp16.enabled", "training.precision"),
        ({"optimizer": {"type": "Lamb"}}, "extra.optimizer", "training.optimizer"),
        ({"scheduler": {"type": "WarmupLR"}}, "extra.scheduler", "training.warmup_share"),
    ],
)
def test_contradictions_name_both_settings(extra: dict[str, Any], path: str, setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        deepspeed_config(section(deepspeed={"zero_stage": 1, "extra": extra}))
    assert path in caught.value.problem
    assert setting in str(caught.value)
    agreeing = deepspeed_config(section(deepspeed={"extra": {"gradient_accumulation_steps": 1}}))
    assert agreeing["gradient_accumulation_steps"] == 1
