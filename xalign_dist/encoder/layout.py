"""What a sentence-transformers directory says beside its weights: pooling, head, limits, prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from xalign_dist.encoder.pooling import Pooling
from xalign_dist.errors import ModelError

#: In config_sentence_transformers.json under ``__version__``: this directory was written here.
OURS = "xalign_dist"
MODULES_FILE, SENTENCE_FILE, PROMPTS_FILE = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
POOLING_FLAGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_POOLING_NAMES: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last", "last": "last"}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "torch.nn.modules.activation.GELU": nn.GELU,
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
}
IDENTITY = "torch.nn.modules.linear.Identity"


@dataclass(frozen=True)
class Layout:
    """A model directory, read.

    Attributes:
        transformer: where config.json and the weights are.
        pooling: None: not said, or one that is not supported (``pooling_said`` names it).
        head: the Dense modules; None: there are none.
        max_tokens: None: not said.
        query_prefix, passage_prefix: prompts that belong to every text.
        ours: the directory was written by :func:`~xalign_dist.encoder.save.save_encoder`.
    """

    transformer: Path
    pooling: Pooling | None = None
    pooling_said: str = ""
    head: nn.Sequential | None = None
    max_tokens: int | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    ours: bool = False


def read_layout(directory: Path) -> Layout:
    """Read ``directory``; a plain transformers directory gives the defaults.

    Raises:
        ModelError: a file is damaged, or a module does something that the encoder cannot do.
    """
    if not (directory / MODULES_FILE).exists():
        return Layout(directory)
    transformer, pooling, said = directory, None, ""
    layers: list[nn.Module] = []
    for kind, folder in _modules(directory):
        if kind == "Transformer":
            transformer = folder
        elif kind == "Pooling":
            pooling, said = _pooling(read_json(folder / "config.json"))
        elif kind == "Dense":
            layers += _dense(folder)
        elif kind not in ("Normalize", "Dropout"):
            raise ModelError(
                f"{directory}: module {kind} of sentence-transformers is not supported",
                "use a model of Transformer, Pooling, Dense and Normalize",
            )
    limit = read_json(transformer / SENTENCE_FILE, {}).get("max_seq_length")
    query, passage = _prompts(read_json(directory / PROMPTS_FILE, {}))
    head = nn.Sequential(*layers) if layers else None
    return Layout(transformer, pooling, said, head, limit, query, passage, is_ours(directory))


def is_ours(directory: Path) -> bool:
    """Whether ``directory`` was written by this package."""
    return OURS in read_json(directory / PROMPTS_FILE, {}).get("__version__", {})


def read_json(path: Path, default: dict[str, Any] | None = None) -> Any:
    """A JSON file; ``default`` where it is missing.

    Raises:
        ModelError: missing without a default, or damaged.
    """
    if default is not None and not path.exists():
        return default
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as err:
        raise ModelError(f"{path}: not readable as JSON ({err})", "fetch or save the model again") from err


def _modules(directory: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of each module."""
    found = []
    for row in read_json(directory / MODULES_FILE):
        try:
            kind, folder = row["type"].rsplit(".", 1)[-1], (directory / row["path"]).resolve()
        except (KeyError, TypeError, AttributeError):
            raise ModelError(
                f"{directory}/{MODULES_FILE}: damaged at {row!r}", "save the model again"
            ) from None
        if not folder.is_relative_to(directory.resolve()):
            raise ModelError(f"{directory}: module path {row['path']!r} leaves it", f"mend {MODULES_FILE}")
        found.append((kind, folder))
    return found


def _pooling(settings: dict[str, Any]) -> tuple[Pooling | None, str]:
    """The one mode that is switched on; older directories have a flag for each, newer ones a name."""
    said = [k for k, v in settings.items() if k.startswith("pooling_mode_") and v is True]
    if name := settings.get("pooling_mode"):
        said = [name] if isinstance(name, str) else [str(n) for n in name]
    modes = POOLING_FLAGS | _POOLING_NAMES
    return (modes.get(said[0]) if len(said) == 1 else None), ", ".join(said)


def _dense(folder: Path) -> list[nn.Module]:
    settings = read_json(folder / "config.json")
    odd = settings.get("use_residual") or settings.get("module_input_name", "") not in (
        "",
        "sentence_embedding",
    )
    activation = settings.get("activation_function", IDENTITY)
    if odd or (activation != IDENTITY and activation not in ACTIVATIONS):
        known = ", ".join(name.rsplit(".", 1)[-1] for name in (IDENTITY, *ACTIVATIONS))
        raise ModelError(
            f"{folder}: this Dense module ({activation}) is not supported",
            f"use one without residual and with one of: {known}",
        )
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise ModelError(
            f"{folder}: no model.safetensors; weights are read from safetensors only",
            "convert it: SentenceTransformer(path).save_pretrained(path, safe_serialization=True)",
        )
    try:
        layer = nn.Linear(settings["in_features"], settings["out_features"], bias=settings.get("bias", True))
        layer.load_state_dict({k.removeprefix("linear."): v for k, v in load_file(weights).items()})
    except (KeyError, RuntimeError, SafetensorError) as err:
        raise ModelError(f"{folder}: damaged ({err})", "fetch or save the model again") from err
    return [layer] if activation == IDENTITY else [layer, ACTIVATIONS[activation]()]


def _prompts(settings: dict[str, Any]) -> tuple[str, str]:
    """Prefixes for either side: what we saved, or the one that sentence-transformers adds by default."""
    prompts = settings.get("prompts") or {}
    if OURS in settings.get("__version__", {}):
        return prompts.get("query") or "", prompts.get("passage") or ""
    default = prompts.get(settings.get("default_prompt_name") or "") or ""
    return default, default
