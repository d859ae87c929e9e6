"""Find and load an encoder: builtin, sentence-transformers or transformers directory, hub id.

Weights are read from safetensors only, and code that comes with a model is never run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file
from torch import nn

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder.builtin import PREFIX, builtin_directory, parse_builtin
from xalign_dist.encoder.head import build_head
from xalign_dist.encoder.model import Encoder
from xalign_dist.encoder.pooling import Pooling
from xalign_dist.errors import DependencyError, ModelError

_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


def load_encoder(
    spec: str, config: EncoderConfig | None = None, device: str | torch.device | None = None
) -> Encoder:
    """Load the encoder named by ``spec``.

    Args:
        spec: ``builtin:e5-small[?layers=N]``, a local directory, or a hub id.
        config: pooling, head, prefixes, LoRA; ``config.model`` is not read. None: defaults.
        device: None: the first GPU, else the CPU.

    Raises:
        ModelError: no such model, no safetensors weights, or an unknown kind.
        DependencyError: a package that this model needs is missing.
    """
    config = config or EncoderConfig(model=spec)
    layers = parse_builtin(spec) if spec.startswith(PREFIX) else None
    source: str | Path = builtin_directory() if layers is not None else spec
    directory = Path(source) if Path(source).is_dir() else None
    if directory is not None:
        _require_weights(directory)
    backbone, tokenizer = _load_transformers(str(source), spec, layers)
    modules = _sentence_modules(directory)
    pooling = _pooling(config, modules, backbone)
    encoder = Encoder(
        _adapt(backbone, config),
        tokenizer,
        pooling=pooling,
        head=_head(config, modules, directory, backbone.config.hidden_size),
        max_tokens=min(config.max_tokens, _longest(backbone)),
        query_prefix=config.query_prefix,
        passage_prefix=config.passage_prefix,
    )
    encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return encoder.eval()


def _require_weights(directory: Path) -> None:
    if not (directory / "config.json").exists():
        raise ModelError(f"{directory}: no config.json, so no model", "give a transformers directory")
    if not list(directory.glob("*.safetensors")):
        other = sorted(p.name for p in directory.glob("*.bin"))
        found = f"only {', '.join(other)}" if other else "no weights"
        raise ModelError(
            f"{directory}: {found}; weights are read from safetensors only",
            "save it again with save_pretrained(..., safe_serialization=True)",
        )


def _load_transformers(source: str, spec: str, layers: int | None) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    safe = {"trust_remote_code": False}
    try:
        settings = AutoConfig.from_pretrained(source, **safe)
        extra: dict[str, Any] = {"add_pooling_layer": False} if settings.model_type in _POOLED else {}
        if layers is not None:
            settings.num_hidden_layers = layers
        model = AutoModel.from_pretrained(
            source, config=settings, use_safetensors=True, dtype=torch.float32, **safe, **extra
        )
        tokenizer = AutoTokenizer.from_pretrained(source, **safe)
    except (OSError, ValueError, KeyError) as err:
        reason = str(err).strip().splitlines()[0]
        raise ModelError(
            f"{spec}: cannot be loaded ({reason})",
            "give a local directory, builtin:e5-small, or a hub id that this machine can reach",
        ) from err
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


# Families whose AutoModel has a pooler, which pooling here never uses.
_POOLED = frozenset({"bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "ernie", "electra"})
_POOLED -= {"electra"}


def _longest(backbone: Any) -> int:
    limit = getattr(backbone.config, "max_position_embeddings", None) or 1 << 20
    # RoBERTa's positions start behind the padding index.
    return int(limit) - (2 if "roberta" in backbone.config.model_type else 0)


def _sentence_modules(directory: Path | None) -> list[tuple[str, Path]]:
    """(kind, folder) of a sentence-transformers directory's modules; empty for others."""
    if directory is None or not (directory / "modules.json").exists():
        return []
    rows = json.loads((directory / "modules.json").read_text("utf-8"))
    found = []
    for row in rows:
        folder = (directory / row["path"]).resolve()
        if not folder.is_relative_to(directory.resolve()):
            raise ModelError(f"{directory}: module path {row['path']!r} leaves the model", "mend modules.json")
        found.append((row["type"].rsplit(".", 1)[-1], folder))
    return found


def _pooling(config: EncoderConfig, modules: list[tuple[str, Path]], backbone: Any) -> Pooling:
    if config.pooling != "auto":
        return config.pooling
    for kind, folder in modules:
        if kind == "Pooling":
            return _declared_pooling(json.loads((folder / "config.json").read_text("utf-8")), folder)
    names = getattr(backbone.config, "architectures", None) or [type(backbone).__name__]
    causal = type(backbone).__name__.endswith(("ForCausalLM",)) or any("CausalLM" in n for n in names)
    family = type(backbone).__name__
    return "last" if causal or family.startswith(("Qwen", "Mistral", "Llama", "Gemma")) else "mean"


def _declared_pooling(settings: dict[str, Any], folder: Path) -> Pooling:
    chosen = [ours for theirs, ours in _MODES.items() if settings.get(theirs)]
    mode = settings.get("pooling_mode")
    if mode in ("mean", "cls", "lasttoken", "last"):
        chosen = ["last" if mode in ("lasttoken", "last") else cast(Literal["mean", "cls"], mode)]
    if len(chosen) != 1:
        raise ModelError(f"{folder}: pooling mode is not one of mean, cls, last", "set encoder.pooling")
    return chosen[0]


def _head(
    config: EncoderConfig, modules: list[tuple[str, Path]], directory: Path | None, width: int
) -> nn.Sequential | None:
    dense = [folder for kind, folder in modules if kind == "Dense"]
    if dense and config.projection != "none":
        raise ModelError(
            f"{directory}: has a projection already", "set encoder.projection=none to go on training it"
        )
    if not dense:
        return build_head(config.projection, width, config.projection_dim, config.orthogonal)
    layers: list[nn.Module] = []
    for folder in dense:
        settings = json.loads((folder / "config.json").read_text("utf-8"))
        linear = nn.Linear(settings["in_features"], settings["out_features"], bias=settings["bias"])
        state = load_file(folder / "model.safetensors")
        linear.load_state_dict({k.removeprefix("linear."): v for k, v in state.items()})
        layers.append(linear)
        activation = settings["activation_function"].rsplit(".", 1)[-1]
        if activation == "GELU":
            layers.append(nn.GELU())
        elif activation != "Identity":
            raise ModelError(f"{folder}: activation {activation} is not supported", "use GELU or Identity")
    return nn.Sequential(*layers)


def _adapt(backbone: Any, config: EncoderConfig) -> Any:
    if config.gradient_checkpointing:
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
    if config.lora_rank is None:
        return backbone
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise DependencyError("encoder.lora_rank needs peft", "pip install 'xalign_dist[lora]'") from None
    lora = LoraConfig(r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear")
    return get_peft_model(backbone, lora)
