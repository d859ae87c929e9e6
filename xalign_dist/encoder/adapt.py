"""What is done to a backbone after loading: recomputed activations, LoRA; and which attention it gets."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn

from xalign_dist.config.model import EncoderConfig
from xalign_dist.encoder.layers import base_model
from xalign_dist.errors import ConfigError, DependencyError, ModelError


def attention_setting(config: EncoderConfig, device: torch.device) -> dict[str, str]:
    """How transformers names ``encoder.attention``, as an argument of its loading.

    Raises:
        ConfigError: flash without a GPU.
        DependencyError: flash without its package.
    """
    if config.attention == "auto":
        return {}
    if config.attention != "flash":
        return {"attn_implementation": config.attention}
    if device.type != "cuda":
        raise ConfigError(
            f"encoder.attention=flash needs a GPU, but the encoder is on {device.type}",
            "set encoder.attention=auto",
        )
    if importlib.util.find_spec("flash_attn") is None:
        raise DependencyError(
            "encoder.attention=flash needs the package flash_attn",
            "pip install flash-attn, or set encoder.attention=auto (torch's own kernels)",
        )
    return {"attn_implementation": "flash_attention_2"}


def adapt(backbone: Any, config: EncoderConfig) -> Any:
    """Switch on what ``config`` says, in place; the LoRA wrapper if it says so.

    Raises:
        ModelError: the backbone cannot do it.
        DependencyError: LoRA without peft.
    """
    if config.gradient_checkpointing:
        _recompute(backbone)
    return backbone if config.lora_rank is None else _with_lora(backbone, config)


def _recompute(backbone: Any) -> None:
    try:
        # Named activation_checkpointing_enable in later releases of transformers 5.
        enable = getattr(backbone, "activation_checkpointing_enable", None)
        (enable or backbone.gradient_checkpointing_enable)({"use_reentrant": False})
    except ValueError as err:
        raise ModelError(
            f"{type(backbone).__name__}: cannot recompute activations ({err})",
            "set encoder.gradient_checkpointing=false",
        ) from err


def _with_lora(backbone: Any, config: EncoderConfig) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise DependencyError("encoder.lora_rank needs peft", "pip install 'xalign_dist[lora]'") from None
    assert config.lora_rank is not None
    model = base_model(backbone)
    linear = {name.rsplit(".", 1)[-1] for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    unknown = [target for target in config.lora_targets or () if target not in linear]
    if unknown:
        raise ModelError(
            f"encoder.lora_targets: {type(model).__name__} has no linear layer {', '.join(unknown)}",
            f"choose from {', '.join(sorted(linear))}, or set encoder.lora_targets=null for all",
        )
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * config.lora_rank,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_targets or "all-linear",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # every rank must draw the same
        return get_peft_model(model, lora)
