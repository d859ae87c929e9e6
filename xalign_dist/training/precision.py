"""Which number format the encoder computes in."""

from __future__ import annotations

import torch

from xalign_dist.errors import ConfigError


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype of autocast for ``training.precision``; None: plain fp32.

    Master weights, gradients, optimizer state and the objective stay fp32 in every case. ``auto`` is
    bf16 where the hardware multiplies bf16 (CUDA from Ampere on, CPUs with AVX512-BF16 or AMX), else
    fp32: emulated bf16 is slower than fp32.

    Raises:
        ConfigError: fp16 without a GPU (its loss scaling needs CUDA kernels).
    """
    if precision == "auto":
        return torch.bfloat16 if _has_bf16(device) else None
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"training.precision=fp16 needs a GPU, but training runs on {device.type}",
            "set training.precision=bf16 or auto",
        )
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
