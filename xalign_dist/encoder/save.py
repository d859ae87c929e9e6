"""Save an encoder so that SentenceTransformer(path) and AutoModel.from_pretrained(path) load it."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from xalign_dist.encoder.model import Encoder
from xalign_dist.encoder.pooling import Pooling
from xalign_dist.encoder.vocabulary import restored_matrix
from xalign_dist.errors import OutputError

_MODES: dict[Pooling, str] = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
}
_ACTIVATIONS = {True: "torch.nn.modules.activation.GELU", False: "torch.nn.modules.linear.Identity"}


def save_encoder(encoder: Encoder, path: str, card: str | None = None) -> None:
    """Write ``path`` in the sentence-transformers layout, whole or not at all.

    A trimmed vocabulary is saved in full, with the trained rows in their places; the live
    encoder is not changed. LoRA weights are merged. An earlier model at ``path`` is replaced.

    Raises:
        OutputError: not writable, or ``path`` holds something that is no model.
    """
    home = Path(path)
    if home.exists() and any(home.iterdir()) and not (home / "config.json").exists():
        raise OutputError(f"{home}: holds files that are no model", "choose an empty directory")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{home.name}-"))
    except OSError as err:
        raise OutputError(f"{home}: cannot be written ({err.strerror})", "choose another place") from err
    try:
        _write(encoder, aside, card)
        aside.chmod(0o755)
        if home.exists():
            shutil.rmtree(home)
        aside.rename(home)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(encoder: Encoder, home: Path, card: str | None) -> None:
    _save_backbone(encoder, home)
    encoder.tokenizer.save_pretrained(home)
    modules = [_module(0, "", "models.Transformer"), _module(1, "1_Pooling", "models.Pooling")]
    width = int(encoder.backbone.config.hidden_size)
    pooling = {"word_embedding_dimension": width} | {m: how == encoder.pooling for how, m in _MODES.items()}
    _json(home / "1_Pooling" / "config.json", pooling)
    for linear, gelu in _dense_layers(encoder.head):
        name = f"{len(modules)}_Dense"
        modules.append(_module(len(modules), name, "models.Dense"))
        _save_dense(linear, gelu, home / name)
    name = f"{len(modules)}_Normalize"
    (home / name).mkdir()
    modules.append(_module(len(modules), name, "models.Normalize"))
    _json(home / "modules.json", modules)
    _json(home / "sentence_bert_config.json", {"max_seq_length": encoder.max_tokens, "do_lower_case": False})
    prompts = {"query": encoder.query_prefix, "passage": encoder.passage_prefix}
    default = "query" if encoder.query_prefix else None
    _json(
        home / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": default, "similarity_fn_name": "cosine"},
    )
    if card is not None:
        (home / "README.md").write_text(card, "utf-8")


def _save_backbone(encoder: Encoder, home: Path) -> None:
    backbone: Any = encoder.backbone
    if hasattr(backbone, "merge_and_unload"):
        backbone = copy.deepcopy(backbone).merge_and_unload()
    state = dict(backbone.state_dict())
    settings = copy.deepcopy(backbone.config)
    if encoder.rows is not None:
        full = restored_matrix(encoder)
        table = backbone.get_input_embeddings().weight
        name = next(k for k, v in backbone.named_parameters() if v is table)
        state[name] = full
        settings.vocab_size = full.shape[0]
    settings.save_pretrained(home)
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    save_file(tensors, home / "model.safetensors", metadata={"format": "pt"})


def _dense_layers(head: nn.Sequential | None) -> list[tuple[nn.Linear, bool]]:
    layers: list[tuple[nn.Linear, bool]] = []
    for part in head or ():
        if isinstance(part, nn.Linear):
            layers.append((part, False))
        else:
            layers[-1] = (layers[-1][0], True)
    return layers


def _save_dense(linear: nn.Linear, gelu: bool, folder: Path) -> None:
    folder.mkdir()
    tensors = {"linear.weight": linear.weight.detach().cpu().contiguous()}
    if linear.bias is not None:
        tensors["linear.bias"] = linear.bias.detach().cpu().contiguous()
    save_file(tensors, folder / "model.safetensors")
    _json(
        folder / "config.json",
        {
            "in_features": linear.in_features,
            "out_features": linear.out_features,
            "bias": linear.bias is not None,
            "activation_function": _ACTIVATIONS[gelu],
        },
    )


def _module(index: int, path: str, kind: str) -> dict[str, Any]:
    return {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.{kind}"}


def _json(path: Path, data: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
