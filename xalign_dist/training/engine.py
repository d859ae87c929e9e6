"""What trains the encoder: the protocol, and its bare torch form, twin of the DeepSpeed engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from xalign_dist.config.model import TrainingConfig
from xalign_dist.encoder import Encoder
from xalign_dist.encoder.precision import autocast_dtype
from xalign_dist.errors import ModelError
from xalign_dist.objective.gather import GradientMean
from xalign_dist.training.compiled import compile_layers
from xalign_dist.training.dropout import quicken_dropout
from xalign_dist.training.embedding import add_rows_only
from xalign_dist.training.optimizer import build_optimizer, set_rate, zero_moments

#: AdamW's state of a parameter, by the names that torch gives it.
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class EngineState:
    """Trainable parameters and optimizer moments, whole, on the CPU, by parameter name.

    The same on every engine, ZeRO stage and world size: what one saved, any other continues.

    Attributes:
        parameters: name -> values.
        moments: ``exp_avg.NAME`` and ``exp_avg_sq.NAME`` (AdamW; empty for SGD or before the first step).
        updates: optimizer steps behind the moments (AdamW's bias correction).
        loss_scale: of fp16; None: there is none.
    """

    parameters: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)
    updates: int = 0
    loss_scale: float | None = None


class Engine(Protocol):
    """An encoder in training. All ranks call the same methods in the same order."""

    encoder: Encoder
    device: torch.device

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors float32 ``[R, D]`` of ``ids`` and ``mask`` ``[R, L]``, on the device."""
        ...

    def backward(self, value: Tensor) -> None:
        """Add the gradient of the scalar ``value``. May be called several times before :meth:`step`."""
        ...

    def step(self, rate: float) -> float:
        """Average the gradient over ranks, clip, update at ``rate``, clear.

        Returns:
            The norm of the averaged gradient before clipping. Where it is not finite, on every rank, no
            update was made.
        """
        ...

    def discard(self) -> None:
        """Forget the gradients added since the last :meth:`step`."""
        ...

    def state(self) -> EngineState:
        """The whole state, on rank 0; other ranks take part and get an empty one."""
        ...

    def load_moments(self, state: EngineState) -> None:
        """Continue with the optimizer state of ``state``, which every rank passes whole.

        The parameters are loaded before the engine is built, see :func:`load_parameters`.
        """
        ...

    def full_parameters(self) -> AbstractContextManager[None]:
        """While inside, ``encoder`` holds every parameter whole (ZeRO-3 shards them otherwise)."""
        ...

    def resting(self) -> AbstractContextManager[Any]:
        """While inside, no weight changes and no gradient is asked: their low-precision copies are kept."""
        ...


#: Builds the engine around a loaded encoder.
EngineFactory = Callable[[Encoder, TrainingConfig], Engine]


class Autocast(nn.Module):
    """Runs the encoder in ``dtype`` (None: as it is); what an engine wraps.

    A module of its own, because DeepSpeed switches off an autocast that is set around its forward.
    """

    def __init__(self, encoder: Encoder, dtype: torch.dtype | None) -> None:
        """``dtype`` of matrix products; weights keep theirs."""
        super().__init__()
        self.encoder = encoder
        self.dtype = dtype

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors float32 ``[R, D]``."""
        with torch.autocast(ids.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            unit_RD: Tensor = self.encoder(ids, mask)
        return unit_RD


class TorchEngine:
    """Plain torch, any device, one process or a data-parallel group. Parameters are whole on every rank."""

    def __init__(self, encoder: Encoder, config: TrainingConfig) -> None:
        """Take over ``encoder`` where it is; its device is the engine's."""
        self.encoder = encoder
        self.device = next(encoder.parameters()).device
        self._config = config
        looked_up = add_rows_only(encoder)
        quicken_dropout(encoder)
        dtype = autocast_dtype(config.precision, self.device)
        self._module = Autocast(encoder, dtype).train()
        if config.compile:
            compile_layers(encoder, self._module)
        self._optimizer = build_optimizer(encoder, config)
        if config.optimizer == "adamw":
            # Before the first step, so that the dry run of the longest batch finds their memory taken.
            for p in trainable(encoder).values():
                self._optimizer.state[p] = zero_moments(p)
        self._mean_gradients = GradientMean(encoder.parameters(), looked_up)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=dtype is torch.float16)

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See :class:`Engine`."""
        unit_RD: Tensor = self._module(ids, mask)
        return unit_RD

    def backward(self, value: Tensor) -> None:
        """See :class:`Engine`."""
        self._scaler.scale(value).backward()  # type: ignore[no-untyped-call]

    def step(self, rate: float) -> float:
        """See :class:`Engine`."""
        self._mean_gradients()
        self._scaler.unscale_(self._optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.encoder.parameters(), self._config.clip_norm))
        set_rate(self._optimizer, rate)
        if math.isfinite(norm) or self._scaler.is_enabled():  # a scaler leaves the step out itself
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def discard(self) -> None:
        """See :class:`Engine`."""
        self._optimizer.zero_grad(set_to_none=True)

    def state(self) -> EngineState:
        """See :class:`Engine`."""
        state = EngineState()
        if self._scaler.is_enabled():
            state.loss_scale = self._scaler.get_scale()
        state.updates = max(
            (int(h["step"]) for h in self._optimizer.state.values() if "step" in h), default=0
        )
        for name, p in trainable(self.encoder).items():
            state.parameters[name] = p.detach().cpu().clone()
            for key in MOMENTS if state.updates else ():
                state.moments[f"{key}.{name}"] = self._optimizer.state[p][key].detach().cpu().clone()
        return state

    def load_moments(self, state: EngineState) -> None:
        """See :class:`Engine`."""
        if self._scaler.is_enabled() and state.loss_scale is not None:
            self._scaler.load_state_dict(self._scaler.state_dict() | {"scale": state.loss_scale})
        for name, p in trainable(self.encoder).items():
            if state.moments:
                held = self._optimizer.state[p]
                held["step"].fill_(float(state.updates))
                for key in MOMENTS:
                    held[key].copy_(moment_of(state, key, name, p.shape))

    def full_parameters(self) -> AbstractContextManager[None]:
        """See :class:`Engine`."""
        return nullcontext()

    def resting(self) -> AbstractContextManager[Any]:
        """See :class:`Engine`."""
        return keep_casts(self.device)


def keep_casts(device: torch.device) -> AbstractContextManager[Any]:
    """While inside, autocasts keep their copies of the weights, which they forget at their end otherwise.

    Only without gradients: such a copy has no way back to its weight.
    """
    # Off itself; but the copies are forgotten at the end of the outermost one, and that is this.
    return torch.autocast(device.type, enabled=False)


def moment_of(state: EngineState, key: str, name: str, shape: torch.Size) -> Tensor:
    """A moment of ``state``; zeros where none was saved: the parameter never had a gradient then."""
    found = state.moments.get(f"{key}.{name}")
    return torch.zeros(shape) if found is None else found


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def load_parameters(encoder: Encoder, state: EngineState) -> None:
    """Set the trainable parameters of an encoder that no engine has taken over yet.

    Raises:
        ModelError: names or shapes differ, naming the first parameter that does.
    """
    wanted = {name: tuple(p.shape) for name, p in trainable(encoder).items()}
    found = {name: tuple(value.shape) for name, value in state.parameters.items()}
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            raise ModelError(
                f"checkpoint does not fit the encoder: {name} has shape {found.get(name)} in the checkpoint "
                f"and {wanted.get(name)} in the encoder",
                "continue with the same encoder section and vocabulary, or start in a new output directory",
            )
    with torch.no_grad():
        for name, p in trainable(encoder).items():
            p.copy_(state.parameters[name])
