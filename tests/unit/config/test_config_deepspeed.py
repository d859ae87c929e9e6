"""Our settings become DeepSpeed's; the user's JSON is merged, and what contradicts is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xalign_dist.config import TrainingConfig, load_config
from xalign_dist.config.deepspeed import deepspeed_config
from xalign_dist.errors import ConfigError

CLUSTER_FILES = sorted((Path(__file__).parents[3] / "cluster" / "deepspeed").glob("*.json"))


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
        ({"train_batch_size": 64}, "extra.train_batch_size", "training.batch_pairs"),
        ({"activation_checkpointing": {}}, "activation_checkpointing", "encoder.gradient_checkpointing"),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}},
            "zero_optimization.offload_optimizer",
            "training.deepspeed.offload",
        ),
        (
            {"zero_optimization": {"offload_param": {"device": "cpu"}}},
            "zero_optimization.offload_param",
            "training.deepspeed.zero_stage",
        ),
    ],
)
def test_contradictions_name_both_settings(extra: dict[str, Any], path: str, setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section(deepspeed={"zero_stage": 1, "extra": extra})
    assert path in caught.value.problem
    assert setting in str(caught.value)
    agreeing = deepspeed_config(section(deepspeed={"extra": {"gradient_accumulation_steps": 1}}))
    assert agreeing["gradient_accumulation_steps"] == 1


def test_what_agrees_is_merged_at_every_stage() -> None:
    for stage in (0, 1):
        extra = {"gradient_clipping": 0.7, "zero_optimization": {"stage": stage}}
        config = deepspeed_config(section(clip_norm=0.7, deepspeed={"zero_stage": stage, "extra": extra}))
        assert config["gradient_clipping"] == (0.7 if stage else 0.0)
    with pytest.raises(ConfigError, match=r"gradient_clipping=1\.0.*0\.7.*training\.clip_norm"):
        section(clip_norm=0.7, deepspeed={"extra": {"gradient_clipping": 1.0}})


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_deepspeeds_own_bf16_against_another_precision(precision: str) -> None:
    deepspeed = {"zero_stage": 2, "extra": {"bf16": {"enabled": True}}}
    with pytest.raises(ConfigError, match=rf"bf16\.enabled=True, but training\.precision is {precision}"):
        section(precision=precision, deepspeed=deepspeed)
    assert deepspeed_config(section(precision="bf16", deepspeed=deepspeed))["bf16"]["enabled"] is True


@pytest.mark.parametrize("stage", [0, 1])
def test_weights_in_16_bits_need_a_stage_that_keeps_fp32_ones(stage: int) -> None:
    deepspeed = {"zero_stage": stage, "extra": {"bf16": {"enabled": True}}}
    with pytest.raises(ConfigError) as caught:
        section(precision="bf16", deepspeed=deepspeed)
    assert f"bf16.enabled=True (weights in 16 bits), but training.deepspeed.zero_stage is {stage}" in str(
        caught.value
    )
    assert "training.precision=bf16" in caught.value.remedy


def test_gradients_are_added_in_fp32_and_fp32_weights_kept() -> None:
    native = {"zero_stage": 2, "extra": {"bf16": {"enabled": True}}}
    for changes in ({"deepspeed": native}, {"precision": "fp16"}, {}):
        assert deepspeed_config(section(**changes))["data_types"] == {"grad_accum_dtype": "fp32"}
    for extra in (
        {"data_types": {"grad_accum_dtype": "bf16"}},
        {"bf16": {"enabled": True, "bf16_master_weights_and_grads": True}},
        {"bf16": {"enabled": True, "check_grad_overflow": False}},
        {"fp16": {"fp16_master_weights_and_grads": True}},
    ):
        with pytest.raises(ConfigError, match=r"training\.deepspeed\.extra sets"):
            section(deepspeed={"zero_stage": 2, "extra": extra})


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_what_deepspeed_would_trip_over_is_refused(stage: int) -> None:
    def with_zero(**zero: Any) -> TrainingConfig:
        return section(deepspeed={"zero_stage": stage, "extra": {"zero_optimization": zero}})

    with pytest.raises(ConfigError, match=r"(?s)compute_grad_norm=False.*training\.clip_norm"):
        with_zero(compute_grad_norm=False)
    if stage < 2:
        with pytest.raises(ConfigError, match=r"(?s)overlap_comm=True.*training\.deepspeed\.zero_stage"):
            with_zero(overlap_comm=True)
    else:
        assert deepspeed_config(with_zero(overlap_comm=True))["zero_optimization"]["overlap_comm"] is True


def test_auto_is_our_value() -> None:
    extra = {"gradient_clipping": "auto", "bf16": {"enabled": "auto"}, "zero_optimization": {"stage": "auto"}}
    assert deepspeed_config(section(deepspeed={"zero_stage": 2, "extra": extra})) == deepspeed_config(
        section(deepspeed={"zero_stage": 2})
    )


def test_json_of_a_file_is_read_when_the_config_is(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text('{"zero_optimization": {"reduce_bucket_size": 5}}')
    config = load_config(None, ["training.deepspeed.zero_stage=2", f"training.deepspeed.extra={path}"])
    assert config.training.deepspeed.extra == {"zero_optimization": {"reduce_bucket_size": 5}}
    with pytest.raises(ConfigError, match=r"training\.deepspeed\.extra: .*not readable as JSON"):
        load_config(None, [f"training.deepspeed.extra={tmp_path / 'none.json'}"])


@pytest.mark.parametrize("path", CLUSTER_FILES, ids=lambda p: p.stem)
def test_the_files_for_clusters_agree_with_the_settings_they_are_for(path: Path) -> None:
    stage = int(path.stem[4])
    settings = [f"training.deepspeed.extra={path}", f"training.deepspeed.zero_stage={stage}"]
    if path.stem.endswith("offload"):
        settings.append("training.deepspeed.offload=cpu")
    load_config(None, settings)
    with pytest.raises(ConfigError, match=r"training\.deepspeed\.zero_stage"):
        load_config(None, [settings[0], f"training.deepspeed.zero_stage={(stage + 1) % 4}", *settings[2:]])


@pytest.mark.parametrize("value", ["zero_stage=2", "extra={wall_clock_breakdown: true}"])
def test_training_without_deepspeed_takes_none_of_its_settings(value: str) -> None:
    with pytest.raises(ConfigError, match=r"runtime\.train_workers=0 .* training\.deepspeed"):
        load_config(None, ["runtime.train_workers=0", f"training.deepspeed.{value}"])
