"""The engine over DeepSpeed: ZeRO 0 to 3, plain or cached gradients, state that fits any other engine."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import deepspeed
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

from xalign_dist.config.deepspeed import deepspeed_config
from xalign_dist.config.model import TrainingConfig
from xalign_dist.encoder import Encoder
from xalign_dist.encoder.precision import autocast_dtype
from xalign_dist.objective.gather import GradientMean
from xalign_dist.training.compiled import compile_layers
from xalign_dist.training.dropout import quicken_dropout
from xalign_dist.training.embedding import add_rows_only
from xalign_dist.training.engine import MOMENTS, Autocast, EngineState, keep_casts, moment_of, trainable
from xalign_dist.training.optimizer import build_optimizer, set_rate, zero_moments


class DeepSpeedEngine:
    """An encoder in training under DeepSpeed; see :class:`~xalign_dist.training.engine.Engine`.

    Every rank holds the same rows of state under ZeRO 0, a share of optimizer state (1), gradients (2)
    and parameters (3). A process group must be set up before.
    """

    def __init__(self, encoder: Encoder, config: TrainingConfig) -> None:
        """Hand ``encoder`` to DeepSpeed.

        Raises:
            ConfigError: contradicting settings, see :func:`deepspeed_config`.
        """
        self.encoder = encoder
        self.device = encoder.device
        self._settings = deepspeed_config(config)
        self._stage = int(self._settings["zero_optimization"]["stage"])
        native = self._settings["fp16"]["enabled"] or self._settings["bf16"]["enabled"]
        dtype = None if native else autocast_dtype(config.precision, self.device)
        quicken_dropout(encoder)
        self._optimizer = build_optimizer(encoder, config)
        self._clip, self._norm = config.clip_norm, 0.0
        if self._stage == 0:
            # Stages 1 to 3 take gradients from autograd's hooks, parameter by parameter.
            self._mean_gradients = GradientMean(encoder.parameters(), add_rows_only(encoder))
            self._optimizer.register_step_pre_hook(self._average_and_clip)
        # DeepSpeed would compile its shared-memory collectives at the first run on a CPU: a minute, and a
        # compiler that a user may not have, for what gloo does as well.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # It copies its fp32 weights from 16-bit ones: what these cannot hold would be lost at every start.
        exact = {name: p.detach().cpu().clone() for name, p in trainable(encoder).items()} if native else {}
        module = Autocast(encoder, dtype).train()
        if config.compile:
            compile_layers(encoder, module)
        self._engine, *_ = deepspeed.initialize(
            model=module, optimizer=self._optimizer, config=self._settings, dist_init_required=False
        )
        if self._stage == 0:
            # It would average after every chunk, and copy all gradients for that even on one worker.
            self._engine.enable_backward_allreduce = False
        for name, value in exact.items():
            self._set_master(trainable(encoder)[name], value)
        if config.optimizer == "adamw":  # before the first step, so that the dry run finds their memory taken
            self._make_moments()

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors float32 ``[R, D]``."""
        unit_RD: Tensor = self._engine(ids, mask)
        return unit_RD

    def backward(self, value: Tensor) -> None:
        """Add the gradient of ``value``: a micro-step of accumulation."""
        self._engine.backward(value)

    def step(self, rate: float) -> float:
        """Average over ranks, clip, update; returns the norm before clipping."""
        set_rate(self._optimizer, rate)
        self._engine.step()
        return self._norm if self._stage == 0 else float(self._engine.get_global_grad_norm())

    def discard(self) -> None:
        """Forget the gradients added since the last step, wherever the stage keeps them."""
        self._engine.zero_grad()
        if self._stage == 0:
            return
        zero = self._engine.optimizer
        zero.zero_grad(set_to_none=True)
        if self._stage == 3:
            zero.averaged_gradients = {}
            return
        for group in range(len(zero.bit16_groups)):
            zero.averaged_gradients[group] = zero.all_grad_tensors[group] = None
        zero.micro_step_id = -1  # offloaded gradients: the next ones replace these instead of adding to them

    def state(self) -> EngineState:
        """The whole state on rank 0; the other ranks take part in gathering it."""
        state, keep = EngineState(updates=self._updates()), torch.distributed.get_rank() == 0
        if self._settings["fp16"]["enabled"]:
            state.loss_scale = float(self._engine.optimizer.loss_scaler.cur_scale)
        for name, p in trainable(self.encoder).items():
            value = p if self._stage == 0 else safe_get_full_fp32_param(p)
            if keep:
                state.parameters[name] = value.detach().float().cpu().clone().view(self._shape(p))
            for key in MOMENTS if state.updates else ():
                moment = self._moment(p, key)
                if keep and moment is not None:
                    state.moments[f"{key}.{name}"] = moment.detach().cpu().clone().view(self._shape(p))
        return state

    def load_moments(self, state: EngineState) -> None:
        """Continue with ``state``'s optimizer state, each rank taking its share."""
        if self._settings["fp16"]["enabled"] and state.loss_scale is not None:
            self._engine.optimizer.loss_scaler.cur_scale = state.loss_scale
        if not state.moments:
            return
        for held in self._optimizer.state.values():
            held["step"].fill_(float(state.updates))
        for name, p in trainable(self.encoder).items():
            for key in MOMENTS:
                value = moment_of(state, key, name, self._shape(p)).to(self.device)
                if self._stage == 0:
                    self._optimizer.state[p][key].copy_(value)
                elif self._stage == 3:
                    size: int = p.ds_tensor.numel()  # type: ignore[attr-defined]
                    safe_set_local_optimizer_state(p, _share(value, size), key)
                else:
                    safe_set_full_optimizer_state(p, value, key)

    def full_parameters(self) -> AbstractContextManager[None]:
        """While inside, ``encoder`` holds every parameter whole."""
        if self._stage < 3:
            return nullcontext()
        context: AbstractContextManager[None] = deepspeed.zero.GatheredParameters(
            list(self.encoder.parameters())
        )
        return context

    def resting(self) -> AbstractContextManager[Any]:
        """See :class:`Engine`. Under ZeRO 3 the copies would be all the weights that it shares out."""
        return nullcontext() if self._stage == 3 else keep_casts(self.device)

    def _make_moments(self) -> None:
        for held in self._partitions():
            self._optimizer.state[held] = zero_moments(held)
        if self._stage in (1, 2):
            # DeepSpeed 0.19.8 links parameters to their moments once, after the first group's first step,
            # when the second group has none yet: its moments could never be read. So link before.
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _set_master(self, p: nn.Parameter, value: Tensor) -> None:
        value = value.to(self.device)
        if self._stage == 3:
            size: int = p.ds_tensor.numel()  # type: ignore[attr-defined]
            safe_set_local_fp32_param(p, _share(value, size))
        else:
            safe_set_full_fp32_param(p, value)

    def _average_and_clip(self, *_: Any) -> None:
        self._mean_gradients()
        self._norm = float(nn.utils.clip_grad_norm_(self.encoder.parameters(), self._clip))
        if not math.isfinite(self._norm):  # without gradients the optimizer changes nothing
            for p in self.encoder.parameters():
                p.grad = None

    def _partitions(self) -> list[Tensor]:
        """The tensors that the optimizer updates on this rank."""
        if self._stage == 0:
            return list(trainable(self.encoder).values())
        zero = self._engine.optimizer
        return list(
            zero.fp32_partitioned_groups_flat if self._stage == 3 else zero.single_partition_of_fp32_groups
        )

    def _updates(self) -> int:
        return max((int(s["step"]) for s in self._optimizer.state.values() if "step" in s), default=0)

    def _moment(self, p: nn.Parameter, key: str) -> Tensor | None:
        if self._stage == 0:
            value: Tensor | None = self._optimizer.state[p].get(key)
            return value
        return safe_get_full_optimizer_state(p, key)

    def _shape(self, p: nn.Parameter) -> torch.Size:
        return getattr(p, "ds_shape", p.shape)


def _share(value: Tensor, size: int) -> Tensor:
    """This rank's share of ``size`` numbers, the last ones filled with zeros.

    DeepSpeed 0.19.8 fills up parameters that the world size does not divide, but not what is set whole.
    """
    first = torch.distributed.get_rank() * size
    part = value.flatten()[first : first + size]
    return nn.functional.pad(part, (0, size - part.numel()))
