"""The arms of ``benchmarks/training.py``: our loop, sentence-transformers' trainer, and the text of both."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from common import data_file, data_folder
from torch import nn

from xalign_dist.config import EncoderConfig, ObjectiveConfig, TrainingConfig
from xalign_dist.encoder import Encoder, load_encoder, save_encoder, trim_vocabulary
from xalign_dist.pairs.write import WEIGHTED_PAIR, write_training_set
from xalign_dist.pipeline.quickstart_data import build_quickstart_data
from xalign_dist.training import StepRecord, TorchEngine, TrainJob, run_training

#: Steps at the start of every run that are not timed: allocation, first kernels.
WARMUP = 2
PAIRS = 20_000


@dataclass(frozen=True)
class World:
    """What all arms share: a folder, the pairs, the backbone as a spec and as a saved directory."""

    home: Path
    pairs: pa.Table
    model: str
    directory: Path
    precision: str

    @classmethod
    def build(cls, home: Path, model: str, precision: str) -> World:
        """Read the text, tokenise it once, save the backbone where the peer can load it."""
        pairs = _pairs(home)
        encoder = load_encoder(model, EncoderConfig(), torch.device("cpu"))
        save_encoder(encoder, str(home / "backbone"))
        src, tgt = pairs["src"].to_pylist(), pairs["tgt"].to_pylist()
        n = len(src)
        rng = np.random.default_rng(0)
        ref = [rng.normal(size=(n, encoder.dim)).astype(np.float32) for _ in range(2)]
        ref = [r / np.linalg.norm(r, axis=1, keepdims=True) for r in ref]
        fixed = {
            "src_id": [f"s{i}" for i in range(n)],
            "tgt_id": [f"t{i}" for i in range(n)],
            **{"cosine": [0.9] * n, "margin": [1.1] * n, "confidence": [0.9] * n, "weight": [1.0] * n},
            **{"origin": ["parallel"] * n, "round": [0] * n, "stable_rounds": [0] * n},
        }
        columns = {
            name: pairs[name] if name in pairs.column_names else fixed[name] for name in WEIGHTED_PAIR.names
        }
        table = pa.table(columns, schema=WEIGHTED_PAIR)
        write_training_set(
            str(home / "set"), table, encoder.full_ids(src), encoder.full_ids(tgt, side="passage"), *ref
        )
        pq.write_table(pa.table({"text": src + tgt}), home / "texts.parquet")
        return cls(home, pairs, model, home / "backbone", precision)

    def job(self, steps: int, objective: ObjectiveConfig | None = None, **training: Any) -> TrainJob:
        """A job of ``steps`` steps with the product's defaults, but for ``training``."""
        settings = {"steps": steps, "precision": self.precision, "checkpoint_every": 10**9, **training}
        work = self.home / f"work-{uuid.uuid4().hex[:8]}"
        return TrainJob(
            out=str(work / "model"),
            work=str(work),
            training_set=str(self.home / "set"),
            model=self.model,
            encoder=EncoderConfig(),
            training=TrainingConfig(**settings),
            objective=objective or ObjectiveConfig.paper(),
            sampling_temperature=1.0,
            start_step=0,
            stop_step=steps,
            total_steps=steps,
            seed=0,
            vocabulary_texts=str(self.home / "texts.parquet"),
        )


class Clock:
    """Median rate of the steps after the warm-up."""

    def __init__(self, pairs: int, warmup: int) -> None:
        self._pairs, self._warmup = pairs, warmup
        self._at: list[float] = []

    def tick(self, *_: object) -> None:
        """A step has ended (or the first one begins)."""
        self._at.append(time.perf_counter())

    def rate(self) -> float:
        """Pairs per second."""
        took = np.diff(self._at)[self._warmup :]
        return self._pairs / statistics.median(took.tolist())


class _Stop(Exception):
    """Ends a run whose timing is done, before it saves its model."""


def ours(world: World, steps: int, batch: int, warmup: int = WARMUP, **options: Any) -> float:
    """Pairs/s of the bare loop."""
    clock = Clock(batch, warmup - 1)  # the first tick is the end of the first step
    job = world.job(steps + warmup, batch_pairs=batch, **options)

    def report(record: StepRecord) -> None:
        clock.tick()
        if record.step == steps + warmup:
            raise _Stop

    with contextlib.suppress(_Stop):
        run_training(job, TorchEngine, report, device=torch.device("cpu"))
    shutil.rmtree(job.work, ignore_errors=True)
    return clock.rate()


class TrimmedEmbedding(nn.Module):
    """The rows of the corpus only, looked up by full ids: the peer with our trimming."""

    def __init__(self, weight_RD: torch.Tensor, rows_V: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_RD)
        self.register_buffer("rows", rows_V)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of full ids."""
        return nn.functional.embedding(self.rows[ids], self.weight)


def peer(
    world: World,
    steps: int,
    batch: int,
    cached_chunk: int | None = None,
    trim: bool = False,
    warmup: int = WARMUP,
) -> float:
    """Pairs/s of SentenceTransformerTrainer with (Cached)MultipleNegativesRankingLoss, as documented."""
    os.environ.setdefault("WANDB_DISABLED", "true")
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers import losses as st_losses
    from transformers import TrainerCallback

    model = SentenceTransformer(str(world.directory), device="cpu")
    model.max_seq_length = EncoderConfig().max_tokens
    if trim:
        encoder = load_encoder(world.model, EncoderConfig(), torch.device("cpu"))
        trim_like_ours(model, encoder, pq.read_table(world.home / "texts.parquet")["text"].to_pylist())
    if cached_chunk is None:
        loss: nn.Module = st_losses.MultipleNegativesRankingLoss(model)
    else:
        loss = st_losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=cached_chunk)
    clock = Clock(batch, warmup - 1)

    class Tick(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(world.home / "peer"),
            max_steps=steps + warmup,
            per_device_train_batch_size=batch,
            learning_rate=2e-4,
            warmup_steps=1,
            bf16=world.precision == "bf16",
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            dataloader_drop_last=True,
            seed=0,
        ),
        train_dataset=Dataset.from_dict(
            {"anchor": world.pairs["src"].to_pylist(), "positive": world.pairs["tgt"].to_pylist()}
        ),
        loss=loss,
        callbacks=[Tick()],
    )
    trainer.train()
    return clock.rate()


def trim_like_ours(model: Any, encoder: Encoder, texts: list[str]) -> None:
    """Leave the sentence-transformers ``model`` only the embedding rows that ``texts`` can reach."""
    trim_vocabulary(encoder, texts)
    rows = encoder.rows
    assert rows is not None
    small = encoder.backbone.get_input_embeddings().weight.detach().clone()
    backbone = model[0].auto_model
    backbone.set_input_embeddings(TrimmedEmbedding(small, torch.from_numpy(rows)))


def _pairs(home: Path) -> pa.Table:
    """Real ragged text: a sample of the development data, or the quickstart's own catalogs without it."""
    if data_folder() is not None:
        table = pq.read_table(data_file("train_pairs.parquet"))
    else:
        table = pq.read_table(build_quickstart_data(str(home / "quickstart"), 0).parallel)
    rng = np.random.default_rng(0)
    rows = rng.permutation(table.num_rows)[:PAIRS]
    return table.take(np.sort(rows)).select(["src_lang", "tgt_lang", "source", "src", "tgt"])
