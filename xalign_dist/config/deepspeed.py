"""Our settings as DeepSpeed's JSON; the user's own JSON merged, contradictions refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from xalign_dist.config.base import Section
from xalign_dist.errors import ConfigError

if TYPE_CHECKING:
    from xalign_dist.config.model import TrainingConfig

#: Sections that would replace a part of the step that is ours, or would be ignored: what to set instead.
_OURS = {
    "optimizer": "training.optimizer and training.learning_rate",
    "scheduler": "training.warmup_share",
    "torch_autocast": "training.precision",
    "amp": "training.precision",
    "data_efficiency": "training.batch_pairs and pairs.sampling_temperature",
    "curriculum_learning": "training.batch_pairs and pairs.sampling_temperature",
    "train_batch_size": "training.batch_pairs",
    "elasticity": "training.batch_pairs and runtime.train_workers_max",
    "activation_checkpointing": "encoder.gradient_checkpointing",
    "compile": "training.compile",
    "checkpoint": "training.checkpoint_every",
    "wandb": "tracking.wandb",
}

#: Values of ours that ``extra`` may change.
_FREE = frozenset(
    {
        "steps_per_print",
        "bf16.enabled",
        "zero_force_ds_cpu_optimizer",
        "zero_optimization.offload_optimizer.pin_memory",
        "zero_optimization.stage3_param_persistence_threshold",
    }
)

_SETTING = {
    "train_micro_batch_size_per_gpu": "training.batch_pairs and training.chunk_pairs",
    "gradient_accumulation_steps": "training.chunk_pairs",
    "gradient_clipping": "training.clip_norm",
    "zero_optimization.stage": "training.deepspeed.zero_stage",
    "zero_optimization.offload_optimizer.device": "training.deepspeed.offload",
    "zero_optimization.overlap_comm": "training.deepspeed.zero_stage 2 or 3, which can overlap",
    "zero_optimization.compute_grad_norm": "training.clip_norm, which needs the norm",
    "fp16.enabled": "training.precision",
}


class DeepSpeedConfig(Section):
    """Settings handed to DeepSpeed."""

    zero_stage: Literal[0, 1, 2, 3] = Field(0, description="ZeRO stage; 0: no sharding.")
    offload: Literal["none", "cpu"] = Field("none", description="Where optimizer state lives.")
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="DeepSpeed JSON, or the path of a file of it: merged; contradictions are refused.",
    )

    @field_validator("extra", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(Path(value).read_text("utf-8"))
        except (OSError, ValueError) as err:
            raise ValueError(f"{value} is not readable as JSON ({err})") from None


def deepspeed_config(config: TrainingConfig) -> dict[str, Any]:
    """The DeepSpeed JSON of a training section.

    The optimizer is built by us (plain torch: no extension is compiled), so is the learning rate. A
    step is any number of backward passes and one ``step()``: ``managed_gradient_accumulation`` is off,
    because cached gradients need another number of passes at every step. bf16 is autocast over fp32
    parameters; DeepSpeed's own bf16 (weights in 16 bits beside fp32 ones that are shared out) is switched
    on by ``deepspeed.extra: {bf16: {enabled: true}}``, from ZeRO 2 on. Values "auto" in ``extra`` are ours.

    Raises:
        ConfigError: ``deepspeed.extra`` contradicts a setting of ours; names both.
    """
    stage = config.deepspeed.zero_stage
    fp16 = config.precision == "fp16"
    zero: dict[str, Any] = {"stage": max(stage, 1) if fp16 else stage, "compute_grad_norm": True}
    if stage < 2:
        zero["overlap_comm"] = False  # DeepSpeed overlaps any number of passes from stage 2 on only
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 0
    if config.deepspeed.offload == "cpu":
        if stage == 0:
            raise ConfigError(
                "training.deepspeed.offload=cpu needs a ZeRO stage, but zero_stage is 0",
                "set training.deepspeed.zero_stage to 1, 2 or 3",
            )
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": False}
    base: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.clip_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "fp16": {"enabled": fp16, "fp16_master_weights_and_grads": False},
        "bf16": {"enabled": False, "check_grad_overflow": True, "bf16_master_weights_and_grads": False},
        # Else 16-bit weights would add up the gradients of all chunks in 16 bits.
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": None,
    }
    extra = _without_auto(config.deepspeed.extra)
    _check_ours(extra)
    _check_offload(config, extra)
    merged = _merge(base, extra, "")
    _check_bf16(config, merged)
    if zero["stage"] == 0:
        # Stage 0 clips in the engine, which so learns the norm; DeepSpeed keeps it to itself there.
        merged["gradient_clipping"] = 0.0
    return merged


def _without_auto(extra: dict[str, Any]) -> dict[str, Any]:
    """ "auto" is how transformers' users say that the trainer knows."""
    kept = {k: _without_auto(v) if isinstance(v, dict) else v for k, v in extra.items() if v != "auto"}
    return {k: v for k, v in kept.items() if v != {} or extra[k] == {}}


def _check_ours(extra: dict[str, Any]) -> None:
    for key, setting in _OURS.items():
        if key in extra:
            raise ConfigError(
                f"training.deepspeed.extra.{key} contradicts {setting}", f"remove it and set {setting}"
            )


def _check_offload(config: TrainingConfig, extra: dict[str, Any]) -> None:
    zero = extra.get("zero_optimization")
    if not isinstance(zero, dict):
        return
    for key in ("offload_optimizer", "cpu_offload"):
        wanted = zero.get(key, {})
        device = wanted.get("device", "none") if isinstance(wanted, dict) else "cpu" if wanted else "none"
        if key in zero and device != config.deepspeed.offload:
            raise ConfigError(
                f"training.deepspeed.extra sets zero_optimization.{key} to {device}, but "
                f"training.deepspeed.offload is {config.deepspeed.offload}",
                f"set training.deepspeed.offload={'cpu' if device == 'cpu' else 'none'} or remove it",
            )
    if "offload_param" in zero and config.deepspeed.zero_stage < 3:
        raise ConfigError(
            "training.deepspeed.extra sets zero_optimization.offload_param, but "
            f"training.deepspeed.zero_stage is {config.deepspeed.zero_stage}: parameters are whole there",
            "set training.deepspeed.zero_stage=3 or remove it",
        )


def _check_bf16(config: TrainingConfig, merged: dict[str, Any]) -> None:
    native = merged["bf16"]["enabled"]
    if native and config.precision not in ("auto", "bf16"):
        raise ConfigError(
            f"training.deepspeed.extra sets bf16.enabled=True, but training.precision is {config.precision}",
            "set training.precision=bf16 or remove it",
        )
    stage = config.deepspeed.zero_stage
    if native and stage < 2:
        # Stage 0 copies the gradients before we average them, and stage 1 with sums in fp32 is another
        # optimizer, which shows neither its fp32 weights nor its moments.
        raise ConfigError(
            "training.deepspeed.extra sets bf16.enabled=True (weights in 16 bits), but "
            f"training.deepspeed.zero_stage is {stage}",
            "set training.deepspeed.zero_stage to 2 or 3, or remove it: training.precision=bf16 multiplies "
            "in bf16 and keeps the weights in fp32",
        )


def _merge(base: dict[str, Any], extra: dict[str, Any], where: str) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for key, value in extra.items():
        path = f"{where}.{key}".lstrip(".")
        if isinstance(value, dict) and isinstance(merged.get(key, {}), dict):
            merged[key] = _merge(merged.get(key, {}), value, path)
        elif key in merged and merged[key] != value and path not in _FREE:
            setting = _SETTING.get(path, "our own setting")
            raise ConfigError(
                f"training.deepspeed.extra sets {path}={value!r}, but our settings make it {merged[key]!r}"
                f" ({setting})",
                f"remove it from training.deepspeed.extra and use {setting}",
            )
        else:
            merged[key] = value
    return merged
