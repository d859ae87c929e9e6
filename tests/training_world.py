"""A tiny world for training tests: a random two-layer BERT and word-by-word translations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from xalign_dist.config import EncoderConfig, ObjectiveConfig, TrainingConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.pairs.write import WEIGHTED_PAIR, write_training_set
from xalign_dist.training import TrainJob

# Threads cost more than they give at this size.
torch.set_num_threads(1)

WORDS = 60
LANGUAGES = ("eng", "fra", "deu")


def write_model(home: Path, dropout: float = 0.1, seed: int = 0) -> str:
    """A BERT of 2 layers and 32 dimensions whose words are e0.., f0.., d0..; returns its directory."""
    words = [f"{lang[0]}{n}" for lang in LANGUAGES for n in range(WORDS)]
    vocab = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(home)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(config, add_pooling_layer=False)
        # The usual start (std 0.02) gives one vector for all texts; wider, they differ.
        torch.nn.init.normal_(model.embeddings.word_embeddings.weight, std=1.0)
    model.save_pretrained(home)
    return str(home)


def pairs(rows: int = 120, seed: int = 0) -> pa.Table:
    """``rows`` word-by-word translations eng-fra and eng-deu, texts of 2 to 12 words, all different."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {name: [] for name in WEIGHTED_PAIR.names}
    for n in range(rows):
        numbers = rng.integers(0, WORDS, size=int(rng.integers(2, 13)))
        lang = LANGUAGES[1 + n % 2]
        row = {
            **{"src_id": f"s{n}", "tgt_id": f"t{n}", "src_lang": "eng", "tgt_lang": lang, "source": "toy"},
            "src": " ".join(f"e{i}" for i in numbers),
            "tgt": " ".join(f"{lang[0]}{i}" for i in numbers),
            **{"cosine": 0.9, "margin": 1.1, "confidence": 0.9, "origin": "parallel", "round": 0},
            **{"stable_rounds": 0, "weight": float(rng.uniform(0.5, 1.0))},
        }
        for name, value in row.items():
            columns[name].append(value)
    return pa.table(columns, schema=WEIGHTED_PAIR)


def write_set(home: Path, model: str, rows: int = 120, references: bool = True) -> str:
    """A training set of :func:`pairs`; references are means of one vector a word: translations agree."""
    table = pairs(rows)
    encoder = load_encoder(model, device="cpu")
    rng = np.random.default_rng(5)
    meanings = rng.normal(size=(WORDS, 16)).astype(np.float32)
    numbers = [[int(word[1:]) for word in text.split()] for text in table["src"].to_pylist()]
    ref = np.stack([meanings[n].mean(0) for n in numbers])
    other = ref + 0.1 * rng.normal(size=(rows, 16)).astype(np.float32)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ref, other)]
    src, tgt = (encoder.tokenize(table[side].to_pylist()) for side in ("src", "tgt"))
    write_training_set(str(home), table, src, tgt, *(unit if references else (None, None)))
    return str(home)


def tiny_job(home: Path, dropout: float = 0.1, **changes: Any) -> TrainJob:
    """A job of 8 steps of 12 pairs in ``home``; ``changes`` to TrainJob fields or training settings."""
    model = home / "tiny"
    if not model.exists():
        write_model(model, dropout)
        write_set(home / "set", str(model))
        (home / "texts.txt").write_text("\n".join(t for c in ("src", "tgt") for t in pairs()[c].to_pylist()))
    training = {
        **{"steps": 8, "batch_pairs": 12, "learning_rate": 1e-3, "precision": "fp32", "checkpoint_every": 3},
        **changes.pop("training", {}),
    }
    fields: dict[str, Any] = {
        **{"out": str(home / "out"), "work": str(home / "work"), "training_set": str(home / "set")},
        **{
            "model": str(model),
            "encoder": EncoderConfig(model=str(model)),
            "objective": ObjectiveConfig.paper(),
        },
        **{"sampling_temperature": 1.0, "start_step": 0, "stop_step": 8, "total_steps": 8, "seed": 3},
        "vocabulary_texts": str(home / "texts.txt"),
        **changes,
    }
    return TrainJob(training=TrainingConfig.model_validate(training), **fields)


def elastic_job(home: Path, name: str, steps: int) -> TrainJob:
    """A job without dropout and without planned checkpoints but the last, so that any other was asked for."""
    sgd = {"optimizer": "sgd", "clip_norm": 1e9, "learning_rate": 1e-3, "checkpoint_every": steps}
    return tiny_job(
        home,
        dropout=0.0,
        **{"work": str(home / name), "out": str(home / f"{name}.out")},
        **{"stop_step": steps, "total_steps": steps},
        training={**sgd, "steps": steps, "chunk_pairs": 2},
    )
