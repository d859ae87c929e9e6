"""Which number format the encoder computes in."""

from __future__ import annotations

import functools
from typing import Literal

import torch

from xalign_dist.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The autocast type on ``device``; None: plain float32.

    Master weights, gradients, optimizer state and the objective stay float32 in every case. auto is bf16
    where the hardware multiplies it, else float32: emulated bf16 is slower.

    Raises:
        ConfigError: fp16 without a GPU, or an unknown name.
    """
    if precision == "auto":
        return torch.bfloat16 if has_bf16(device.type) else None
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"precision fp16 on {device.type}: fp16 needs a GPU", "set training.precision=bf16 or auto"
        )
    try:
        return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    except KeyError:
        raise ConfigError(f"precision {precision!r} is not known", "use auto, fp32, bf16 or fp16") from None


@functools.cache
def has_bf16(device_type: str) -> bool:
    """Whether the hardware multiplies bf16: CUDA from Ampere on, CPUs with AVX512-BF16 or AMX."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device_type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
