"""Stage: weighted pairs in, a trained encoder out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from xalign_dist.config import ObjectiveConfig
from xalign_dist.corpora.tables import write_table
from xalign_dist.encoder import load_encoder
from xalign_dist.pairs.write import write_training_set
from xalign_dist.pipeline.context import RunContext
from xalign_dist.runtime.train import train as train_on_ray
from xalign_dist.runtime.vectors import VectorStore
from xalign_dist.training.job import TrainJob

VOCABULARY_FILE = "vocabulary.parquet"


@dataclass(frozen=True)
class Slice:
    """The steps ``[start, stop)`` of an arm's schedule that one round trains."""

    arm: str
    round: int
    start: int
    stop: int


def write_vocabulary(texts: list[str], path: Path) -> None:
    """The distinct texts that decide which embedding rows stay; the same over all rounds."""
    write_table(pa.table({"text": pa.array(sorted(set(texts)), pa.string())}), str(path))


def train_slice(
    context: RunContext,
    part: Slice,
    pairs: pa.Table,
    objective: ObjectiveConfig,
    reference: VectorStore | None,
    previous: Path | None,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Train one round of one arm and save its encoder at ``run.arm(arm, round) / model``.

    Args:
        pairs: ``WEIGHTED_PAIR`` rows.
        reference: vectors of every text, for the structure term; None: without it.
        previous: the arm's work folder of the round before, whose final state goes on.
    """
    config, home = context.config, context.run.arm(part.arm, part.round)
    training_set = home / "training_set"
    job = TrainJob(
        out=str(home / "model"),
        work=str(home / "work"),
        training_set=str(training_set),
        model=config.encoder.model,
        encoder=config.encoder,
        training=config.training,
        objective=objective,
        sampling_temperature=config.pairs.sampling_temperature,
        start_step=part.start,
        stop_step=part.stop,
        total_steps=config.training.steps,
        seed=config.seed,
        init_checkpoint=None if previous is None else str(previous),
        vocabulary_texts=str(context.run.corpus / VOCABULARY_FILE),
        telemetry=str(context.run.telemetry(part.arm)),
    )
    write_set(job, pairs, reference)
    result = train_on_ray(job, config.runtime, str(home / "ray"), lambda _: advance(1))
    return {
        "pairs": pairs.num_rows,
        "steps": result.steps,
        "loss": result.final_loss,
        "pairs_per_second": result.pairs_per_second,
    }


def write_set(job: TrainJob, pairs: pa.Table, reference: VectorStore | None) -> None:
    """Texts are tokenised once, to ids of the whole vocabulary (a trimmed encoder looks its rows up)."""
    encoder = load_encoder(job.model, job.encoder, torch.device("cpu"))
    src, tgt = pairs["src"].to_pylist(), pairs["tgt"].to_pylist()
    write_training_set(
        job.training_set,
        pairs,
        encoder.full_ids(src, side="query"),
        encoder.full_ids(tgt, side="passage"),
        None if reference is None else reference(src),
        None if reference is None else reference(tgt),
    )
