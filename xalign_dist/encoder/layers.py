"""Hidden states of one layer out of a backbone, without keeping those of all the others."""

from __future__ import annotations

import inspect
from typing import Any, cast

from torch import Tensor, nn

from xalign_dist.errors import ModelError


class _EarlyExit(Exception):
    """Ends a forward pass on purpose: the state wanted has been caught."""


def base_model(backbone: Any) -> Any:
    """The transformers model itself, out of a LoRA wrapper if there is one."""
    return backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone


def is_causal(backbone: Any) -> bool:
    """Whether tokens see only what stands before them (decoders: Qwen3, Mistral, Llama).

    Read from the attention modules, where transformers keeps it for the attention kernels.
    """
    return any(getattr(m, "is_causal", False) is True for m in backbone.modules())


def forward_options(backbone: Any) -> frozenset[str]:
    """Names of the optional arguments that the backbone's forward knows."""
    return frozenset(inspect.signature(base_model(backbone).forward).parameters)


def position_padding(backbone: Any) -> int | None:
    """The padding id behind which RoBERTa's positions start; None: positions start at 0."""
    table = getattr(getattr(base_model(backbone), "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return padding if padding is None else int(padding)


def resolve_layer(backbone: Any, layer: int) -> int:
    """Layer counted from the embeddings (0) to the last (depth); negative: from the last (-1).

    Raises:
        ModelError: the backbone has no such layer.
    """
    depth = int(backbone.config.num_hidden_layers)
    index = layer + depth + 1 if layer < 0 else layer
    if not 0 <= index <= depth:
        raise ModelError(
            f"layer {layer}: the encoder has {depth} layers",
            f"use {-depth - 1} to {depth} (setting mining.view_layer, or the suite's layer)",
        )
    return index


def layer_state(
    backbone: Any, inputs: dict[str, Any], layer: int, stop: bool
) -> tuple[Tensor | None, Tensor]:
    """One forward pass: the last states, and those after ``layer``, both ``[B, T, D]``.

    Args:
        layer: 0: embeddings, depth: the last (after a decoder's final norm).
        stop: end the pass at ``layer``; the last states are then None.
    """
    depth = int(backbone.config.num_hidden_layers)
    stack = layer_stack(backbone)
    if layer == depth or stack is None:
        out = backbone(**inputs, output_hidden_states=layer != depth)
        last = cast(Tensor, out.last_hidden_state)
        return last, last if layer == depth else cast(Tensor, out.hidden_states[layer])
    caught: list[Tensor] = []

    def catch(state: Any) -> None:
        caught.append(state[0] if isinstance(state, tuple) else state)
        if stop:
            raise _EarlyExit

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        catch(args[0] if args else kwargs["hidden_states"])

    def after(_: nn.Module, __: Any, output: Any) -> None:
        catch(output)

    if layer == 0:
        handle = stack[0].register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = stack[layer - 1].register_forward_hook(after)
    try:
        return cast(Tensor, backbone(**inputs).last_hidden_state), caught[0]
    except _EarlyExit:
        return None, caught[0]
    finally:
        handle.remove()


def layer_stack(backbone: Any) -> nn.ModuleList | None:
    """The list of layers; None where layers are shared (ALBERT) and there is no such list."""
    depth = int(backbone.config.num_hidden_layers)
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    return None
