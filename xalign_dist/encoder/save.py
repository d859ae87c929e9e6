"""Save an encoder so that SentenceTransformer(path) and AutoModel.from_pretrained(path) load it."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import fsspec
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from xalign_dist import __version__
from xalign_dist.encoder.layers import base_model
from xalign_dist.encoder.layout import (
    ACTIVATIONS,
    IDENTITY,
    MODULES_FILE,
    OURS,
    POOLING_FLAGS,
    PROMPTS_FILE,
    SENTENCE_FILE,
    is_ours,
)
from xalign_dist.encoder.model import Encoder
from xalign_dist.encoder.vocabulary import restored_matrix
from xalign_dist.errors import DependencyError, OutputError


def save_encoder(encoder: Encoder, path: str, card: str | None = None) -> None:
    """Write ``path`` in the sentence-transformers layout, whole or not at all.

    A trimmed vocabulary is saved in full, trained rows in their places; LoRA updates are added to
    the weights they adapt, and saved alone as well, in ``path/adapter`` in peft's form. The live
    encoder is not changed. A model saved here before is replaced.

    Args:
        path: local directory, or URI of any fsspec file system.
        card: text of README.md; None: there is none.

    Raises:
        OutputError: not writable, or ``path`` holds something else than a model of ours.
        DependencyError: no driver for the URI.
    """
    path = path.removeprefix("file://")
    if "://" in path:
        _save_remote(encoder, path, card)
        return
    home = Path(path)
    _require_ours(home)
    aside, old = (home.with_name(f".{home.name}.{uuid.uuid4().hex}{end}") for end in ("", ".old"))
    try:
        aside.mkdir(parents=True)
        _write(encoder, aside, card)
        if home.exists():
            home.rename(old)
        aside.rename(home)
    except (OSError, SafetensorError) as err:
        if old.exists() and not home.exists():
            old.rename(home)
        raise OutputError(
            f"{home}: cannot be written ({err})", "free disk space or choose another place"
        ) from err
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if home.exists():
            shutil.rmtree(old, ignore_errors=True)


def _require_ours(home: Path) -> None:
    if home.exists() and not (home.is_dir() and (not any(home.iterdir()) or is_ours(home))):
        raise OutputError(
            f"{home}: exists and is no model that xalign_dist saved",
            "choose a directory that is new or empty",
        )


def _save_remote(encoder: Encoder, uri: str, card: str | None) -> None:
    """Write locally, upload beside ``uri``, then move: a reader never sees half a model."""
    try:
        fs, root = fsspec.core.url_to_fs(uri)
    except ImportError as err:
        raise DependencyError(f"{uri}: {err}", "install the fsspec driver of this scheme") from None
    except ValueError as err:
        raise OutputError(f"{uri}: {err}", "check the URI's scheme") from None
    root = root.rstrip("/")
    aside = f"{root}.{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "model"
        save_encoder(encoder, str(local), card)
        try:
            if fs.exists(root) and fs.find(root) and not _remote_is_ours(fs, root):
                raise OutputError(f"{uri}: holds something else than a model of ours", "choose another URI")
            for file in sorted(p for p in local.rglob("*") if p.is_file()):
                name = f"{aside}/{file.relative_to(local).as_posix()}"
                fs.makedirs(name.rsplit("/", 1)[0], exist_ok=True)
                fs.put_file(str(file), name)
            if fs.exists(root):
                fs.rm(root, recursive=True)
            fs.mv(aside, root, recursive=True)
        except OSError as err:
            raise OutputError(
                f"{uri}: cannot be written ({err})", "check the URI and the credentials"
            ) from err


def _remote_is_ours(fs: Any, root: str) -> bool:
    name = f"{root}/{PROMPTS_FILE}"
    return bool(fs.exists(name)) and OURS in json.loads(fs.cat_file(name)).get("__version__", {})


def _write(encoder: Encoder, home: Path, card: str | None) -> None:
    _save_backbone(encoder, home)
    if hasattr(encoder.backbone, "peft_config"):
        _save_adapter(encoder, home / "adapter")
    encoder.tokenizer.save_pretrained(home)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    width = int(encoder.backbone.config.hidden_size)
    flags = {flag: mode == encoder.pooling for flag, mode in POOLING_FLAGS.items()}
    _json(home / "1_Pooling" / "config.json", {"word_embedding_dimension": width} | flags)
    for layer, activation in _dense_layers(encoder.head):
        name = f"{len(modules)}_Dense"
        _save_dense(layer, activation, home / name)
        modules.append((name, "Dense"))
    name = f"{len(modules)}_Normalize"
    (home / name).mkdir()
    modules.append((name, "Normalize"))
    rows = [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (folder, kind) in enumerate(modules)
    ]
    _json(home / MODULES_FILE, rows)
    _json(home / SENTENCE_FILE, {"max_seq_length": encoder.max_tokens, "do_lower_case": False})
    _json(
        home / PROMPTS_FILE,
        {
            "__version__": {OURS: __version__},
            "prompts": {"query": encoder.query_prefix, "passage": encoder.passage_prefix},
            "default_prompt_name": "query" if encoder.query_prefix else None,
            "similarity_fn_name": "cosine",
        },
    )
    if card is not None:
        (home / "README.md").write_text(card, "utf-8")


def _save_backbone(encoder: Encoder, home: Path) -> None:
    model = base_model(encoder.backbone)
    state = _plain_state(model)
    settings = copy.deepcopy(model.config)
    if encoder.trimmed is not None:
        table = model.get_input_embeddings().weight
        name = next(k for k, v in model.named_parameters() if v is table)
        state[name] = restored_matrix(encoder)
        settings.vocab_size = len(state[name])
    settings.architectures = [type(model).__name__]
    settings.save_pretrained(home)
    _tensors(home / "model.safetensors", state)


def _save_adapter(encoder: Encoder, home: Path) -> None:
    """What was trained, small enough to send; ``PeftModel.from_pretrained(the base model, home)``."""
    from peft import get_peft_model_state_dict

    settings = copy.deepcopy(encoder.backbone.peft_config["default"])
    settings.inference_mode = True
    settings.save_pretrained(str(home))
    state = get_peft_model_state_dict(encoder.backbone, save_embedding_layers=False)
    _tensors(home / "adapter_model.safetensors", state, beside="adapter_config.json")


def _plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights under its own names, LoRA updates added to the weights they adapt."""
    updates: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            deltas = [module.get_delta_weight(adapter).detach() for adapter in module.active_adapters]
            updates[f"{name}.weight"] = sum(deltas[1:], start=deltas[0])
    state = {}
    for key, value in model.state_dict().items():
        if ".lora_" in key:
            continue
        plain = key.replace(".base_layer.", ".")
        state[plain] = value + updates[plain].to(value.dtype) if plain in updates else value
    return state


def _dense_layers(head: nn.Sequential | None) -> list[tuple[nn.Linear, str]]:
    """Each Linear of the head with the activation behind it, as sentence-transformers names them."""
    names = {kind: name for name, kind in ACTIVATIONS.items()}
    layers: list[tuple[nn.Linear, str]] = []
    for part in head or ():
        if isinstance(part, nn.Linear):
            layers.append((part, IDENTITY))
        else:
            layers[-1] = (layers[-1][0], names[type(part)])
    return layers


def _save_dense(layer: nn.Linear, activation: str, folder: Path) -> None:
    settings = {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.bias is not None,
        "activation_function": activation,
    }
    _json(folder / "config.json", settings)
    # An orthogonal layer computes its weight: this is the matrix itself, not what it is made of.
    state = {"linear.weight": layer.weight}
    if layer.bias is not None:
        state["linear.bias"] = layer.bias
    _tensors(folder / "model.safetensors", state)


def _tensors(path: Path, state: dict[str, Tensor], beside: str = "config.json") -> None:
    save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, path, metadata={"format": "pt"})
    # safetensors writes for the owner alone; others may use the model too.
    shutil.copymode(path.with_name(beside), path)


def _json(path: Path, data: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")
