"""Our settings as DeepSpeed's JSON; the user's own JSON merged, contradictions refused."""

from __future__ import annotations

import copy
from typing import Any

from xalign_dist.config.model import TrainingConfig
from xalign_dist.errors import ConfigError

#: Sections that would replace a part of the step that is ours: what to set instead.
_OURS = {
    "optimizer": "training.optimizer and training.learning_rate",
    "scheduler": "training.warmup_share",
    "torch_autocast": "training.precision",
    "amp": "training.precision",
    "data_efficiency": "training.batch_pairs and pairs.sampling_temperature",
}


def deepspeed_config(config: TrainingConfig) -> dict[str, Any]:
    """The DeepSpeed JSON of a training section.

    The optimizer is built by us (plain torch: no extension is compiled), so is the learning rate. A
    step is any number of backward passes and one ``step()``: ``managed_gradient_accumulation`` is off,
    because cached gradients need another number of passes at every step. bf16 is autocast over fp32
    parameters; DeepSpeed's own bf16 (half the memory) is switched on by
    ``deepspeed.extra: {bf16: {enabled: true}}``.

    Raises:
        ConfigError: ``deepspeed.extra`` contradicts a setting of ours; names both.
    """
    stage = config.deepspeed.zero_stage
    fp16 = config.precision == "fp16"
    zero: dict[str, Any] = {"stage": max(stage, 1) if fp16 else stage}
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
        # Stage 0 clips in the engine, which so learns the norm; DeepSpeed keeps it to itself there.
        "gradient_clipping": config.clip_norm if zero["stage"] > 0 else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "fp16": {"enabled": fp16},
        "bf16": {"enabled": False},
        "steps_per_print": None,
    }
    _check_ours(config.deepspeed.extra)
    return _merge(base, config.deepspeed.extra, "")


def _check_ours(extra: dict[str, Any]) -> None:
    for key, setting in _OURS.items():
        if key in extra:
            raise ConfigError(
                f"training.deepspeed.extra.{key} contradicts {setting}", f"remove it and set {setting}"
            )


def _merge(base: dict[str, Any], extra: dict[str, Any], where: str) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for key, value in extra.items():
        path = f"{where}.{key}".lstrip(".")
        if isinstance(value, dict) and isinstance(merged.get(key, {}), dict):
            merged[key] = _merge(merged.get(key, {}), value, path)
        elif key in merged and merged[key] != value and path not in _FREE:
            raise ConfigError(
                f"training.deepspeed.extra sets {path}={value!r}, but our settings make it {merged[key]!r}",
                f"remove it from training.deepspeed.extra and use {_SETTING.get(path, 'our own setting')}",
            )
        else:
            merged[key] = value
    return merged


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
    "fp16.enabled": "training.precision",
}
