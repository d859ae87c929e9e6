"""Stage: weighted pairs in, a trained encoder out."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from xalign_dist.config import ObjectiveConfig
from xalign_dist.corpora.tables import write_table
from xalign_dist.encoder import load_encoder
from xalign_dist.encoder.model import Side
from xalign_dist.errors import DataError
from xalign_dist.pairs.ragged import Ragged
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.pairs.write import BLOCK_ROWS, write_training_set
from xalign_dist.pipeline.console import Advance
from xalign_dist.pipeline.context import RunContext
from xalign_dist.pipeline.rundir import write_text
from xalign_dist.records import Float32
from xalign_dist.runtime.train import train as train_on_ray
from xalign_dist.runtime.vector_store import VectorStore
from xalign_dist.training.job import TrainJob
from xalign_dist.training.run import batch_plan

_log = logging.getLogger(__name__)

VOCABULARY_FILE = "vocabulary.parquet"
INPUTS_FILE = "inputs"
"""Beside the checkpoints of an arm: from what they were trained."""


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


def trained_from(home: Path) -> str | None:
    """Digest of the inputs of the training in ``home``; None where nothing was trained."""
    marker = home / INPUTS_FILE
    return marker.read_text("utf-8") if marker.exists() else None


def start_slice(home: Path, inputs: str) -> None:
    """Remove checkpoints and Ray's books of a training from other inputs; note what this one is from."""
    if trained_from(home) == inputs:
        return
    for part in ("work", "ray"):
        shutil.rmtree(home / part, ignore_errors=True)
    write_text(home / INPUTS_FILE, inputs)


def train_slice(
    context: RunContext,
    part: Slice,
    pairs: pa.Table,
    objective: ObjectiveConfig,
    reference: VectorStore | None,
    previous: Path | None,
    advance: Advance,
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
        tracking=config.tracking,
    )
    left_out = write_set(job, pairs, reference)
    batch_plan(job, TrainingSet.open(job.training_set))  # its faults show before workers start
    result = train_on_ray(job, config.runtime, str(home / "ray"), _shown(advance), context.screen.say)
    return {
        "pairs": pairs.num_rows - left_out,
        "pairs_without_tokens": left_out,
        "steps": result.steps,
        "steps_skipped": result.skipped,
        "loss": result.final_loss,
        "pairs_per_second": result.pairs_per_second,
    }


def _shown(advance: Advance) -> Callable[[dict[str, Any]], None]:
    """What a person sees of each step: smoothed pairs/s, loss, in-batch accuracy; skipped steps once any."""
    rate = skipped = 0.0

    def on_step(record: dict[str, Any]) -> None:
        nonlocal rate, skipped
        rate += (record["pairs_per_second"] - rate) * (0.1 if rate else 1.0)
        skipped += record["skipped"]
        note = f"{rate:,.0f} pairs/s, loss {record['loss']:.3f}, accuracy {record['accuracy']:.2f}"
        advance(1, f"{note}, {skipped:.0f} skipped" if skipped else note)

    return on_step


def write_set(job: TrainJob, pairs: pa.Table, reference: VectorStore | None) -> int:
    """Texts are tokenised once, to ids of the whole vocabulary (a trimmed encoder looks its rows up).

    Returns:
        Pairs left out, because a side has no token that the model knows; a warning says so.

    Raises:
        DataError: no pair is left.
    """
    src, tgt, empty = _tokens(job, pairs)
    if empty.any():
        first = pairs.slice(int(empty.argmax()), 1).to_pylist()[0]
        problem = (
            f"{int(empty.sum())} of {pairs.num_rows} pairs have a side that tokenises to nothing that "
            f"{job.model} knows, first {first['src_id']!r}: {first['src'][:40]!r} / {first['tgt'][:40]!r}"
        )
        if empty.all():
            raise DataError(problem, "use an encoder.model that knows these scripts, or mend the corpora")
        _log.warning("%s; left out", problem)
        pairs, src, tgt = pairs.filter(pa.array(~empty)), src.where(~empty), tgt.where(~empty)
    references = (None if reference is None else LookedUp(reference, pairs[side]) for side in ("src", "tgt"))
    write_training_set(job.training_set, pairs, src, tgt, *references)
    return int(empty.sum())


def _tokens(job: TrainJob, pairs: pa.Table) -> tuple[Ragged, Ragged, npt.NDArray[np.bool_]]:
    """Ids of both sides, and which pairs have a side that says nothing, bool ``[N]``."""
    # Only its tokenizer is used here, maybe on a machine without the GPU that flash attention needs.
    config = job.encoder.model_copy(update={"attention": "auto", "lora_rank": None})
    encoder = load_encoder(job.model, config, torch.device("cpu"))
    empty_N = np.zeros(pairs.num_rows, np.bool_)

    def ids(column: str, side: Side) -> Iterator[Ragged]:
        for start in range(0, pairs.num_rows, BLOCK_ROWS):
            found = encoder.full_ids(pairs[column].slice(start, BLOCK_ROWS).to_pylist(), side=side)
            empty_N[start : start + BLOCK_ROWS] |= encoder.says_nothing(found, side=side)
            yield Ragged.of(found)

    return Ragged.concatenate(ids("src", "query")), Ragged.concatenate(ids("tgt", "passage")), empty_N


class LookedUp:
    """Vectors of a column of texts, looked up when a block of them is asked for."""

    def __init__(self, vectors: VectorStore, texts: pa.ChunkedArray) -> None:
        self._vectors, self._texts = vectors, texts
        self.shape = (len(texts), vectors.main.shape[1])

    def __getitem__(self, rows: slice) -> Float32:
        start, stop, _ = rows.indices(len(self._texts))
        return self._vectors(self._texts.slice(start, stop - start).to_pylist())
