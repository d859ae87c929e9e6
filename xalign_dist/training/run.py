"""A training job from start to finished encoder, in plain Python: torch and transformers are enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from xalign_dist.batches.batch import BatchStream
from xalign_dist.batches.plan import BatchPlan
from xalign_dist.encoder import Encoder, load_encoder, save_encoder, trim_vocabulary
from xalign_dist.errors import ConfigError, DataError
from xalign_dist.objective import DynamicObjective
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.training.checkpoint import Checkpoint, Checkpoints
from xalign_dist.training.engine import EngineFactory, TorchEngine, load_parameters
from xalign_dist.training.job import TrainJob, TrainResult
from xalign_dist.training.loop import Learner, StepRecord, train_steps
from xalign_dist.training.optimizer import build_discriminator_optimizer
from xalign_dist.training.state import collect, engine_state, restore
from xalign_dist.training.telemetry import Telemetry

#: Called after every step, on every rank equally often.
Report = Callable[[StepRecord], None]


def run_training(
    job: TrainJob,
    engine_factory: EngineFactory = TorchEngine,
    report: Report = lambda record: None,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | None = None,
) -> TrainResult:
    """Run ``job``, or continue it from its newest checkpoint.

    A killed job continues with the same loss curve: batches, dropout and schedule are pure functions of
    (seed, step), the rest is in the checkpoint.

    Args:
        job: what to train.
        engine_factory: builds the engine around the encoder.
        report: called after every step.
        rank, world_size: of the process group, which the caller has set up.
        device: None: the GPU if there is one, else the CPU.

    Raises:
        XalignError: bad settings or data, non-finite loss, collapse; see the classes.
    """
    began = time.perf_counter()
    if not job.start_step < job.stop_step <= job.total_steps:
        raise ConfigError(
            f"training steps {job.start_step} to {job.stop_step} of {job.total_steps} are no stretch of it",
            "raise training.steps",
        )
    training_set = TrainingSet.open(job.training_set)
    encoder = load_trainee(job, device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    checkpoints = Checkpoints(f"{job.work}/checkpoints", job.training.keep_checkpoints)
    checkpoint = _starting_point(job, checkpoints)
    if checkpoint is not None:
        load_parameters(encoder, engine_state(checkpoint))
    learner = _learner(job, encoder, engine_factory, training_set)
    if checkpoint is not None:
        restore(learner, checkpoint, training_set.languages)
    start = job.start_step if checkpoint is None else checkpoint.step
    loss = float("nan") if checkpoint is None else float(checkpoint.figures["loss"])

    steps_began = time.perf_counter()
    for record in _steps(job, learner, training_set, start, rank, world_size):
        loss = record.loss
        if record.step % job.training.checkpoint_every == 0 or record.step == job.stop_step:
            state = collect(learner, record.step, training_set.languages, {"loss": loss})
            if rank == 0:
                checkpoints.save(state)
        report(record)
    seconds = time.perf_counter() - steps_began
    with learner.engine.full_parameters():
        if rank == 0:
            save_encoder(encoder, job.out, _card(job, loss))
    return TrainResult(
        steps=job.stop_step,
        final_loss=loss,
        seconds=time.perf_counter() - began,
        pairs_per_second=(job.stop_step - start) * job.training.batch_pairs / seconds,
        model_path=job.out,
        checkpoint=checkpoints.path(job.stop_step),
    )


def load_trainee(job: TrainJob, device: torch.device) -> Encoder:
    """The encoder that ``job`` starts from, its vocabulary trimmed if the job says so.

    Raises:
        ModelError, DataError: it or the texts cannot be read.
    """
    encoder = load_encoder(job.model, job.encoder, device)
    if job.encoder.trim_vocabulary and job.vocabulary_texts is not None:
        trim_vocabulary(encoder, read_texts(job.vocabulary_texts))
    return encoder


def read_texts(path: str) -> Iterator[str]:
    """Texts of a Parquet file (every string column) or of a text file (one a line).

    Raises:
        DataError: missing or unreadable.
    """
    try:
        if not path.endswith(".parquet"):
            yield from Path(path).read_text("utf-8").splitlines()
            return
        table = pq.read_table(path)
        for name in table.column_names:
            if pa.types.is_string(table[name].type) or pa.types.is_large_string(table[name].type):
                yield from (text for text in table[name].to_pylist() if text is not None)
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as err:
        raise DataError(
            f"{path}: vocabulary texts not readable ({err})", "run the pairs stage again"
        ) from None


def _learner(
    job: TrainJob, encoder: Encoder, engine_factory: EngineFactory, training_set: TrainingSet
) -> Learner:
    objective = DynamicObjective(job.objective, encoder.dim, len(training_set.languages), job.seed)
    engine = engine_factory(encoder, job.training)
    objective.to(engine.device)
    return Learner(engine, objective, build_discriminator_optimizer(objective, job.training))


def _starting_point(job: TrainJob, checkpoints: Checkpoints) -> Checkpoint | None:
    newest = checkpoints.newest()
    if newest is not None:
        return newest
    if job.init_checkpoint is None:
        return None
    checkpoint = Checkpoints.load(job.init_checkpoint)
    if checkpoint.step != job.start_step:
        raise ConfigError(
            f"{job.init_checkpoint} is of step {checkpoint.step}, but the job starts at {job.start_step}",
            "delete the round's directory and run again",
        )
    return checkpoint


def _steps(
    job: TrainJob, learner: Learner, training_set: TrainingSet, start: int, rank: int, world_size: int
) -> Iterator[StepRecord]:
    """The steps that are left, with telemetry written on rank 0."""
    plan = BatchPlan(
        training_set.group_N,
        training_set.src_key_N,
        training_set.tgt_key_N,
        job.training.batch_pairs,
        job.seed,
        job.sampling_temperature,
        job.training.homogeneous_batches,
    )
    stream = BatchStream(training_set, plan, rank, world_size, start, job.stop_step)
    with ExitStack() as stack:
        stack.enter_context(stream)
        telemetry = (
            stack.enter_context(Telemetry(job.telemetry or f"{job.work}/telemetry.jsonl", start))
            if rank == 0
            else None
        )
        for record in train_steps(learner, stream, job.training, job.total_steps, job.seed):
            if telemetry is not None:
                telemetry.write(record.to_json())
                if record.step % job.training.checkpoint_every == 0:
                    telemetry.flush()
            yield record


def _card(job: TrainJob, loss: float) -> str:
    return "\n".join(
        [
            "---",
            "library_name: sentence-transformers",
            "pipeline_tag: sentence-similarity",
            "tags: [sentence-transformers, cross-lingual, xalign_dist]",
            "---",
            "# Cross-lingual sentence encoder",
            "",
            f"Trained by xalign_dist from `{job.model}`: {job.stop_step} of {job.total_steps} steps of "
            f"{job.training.batch_pairs} pairs, seed {job.seed}, last loss {loss:.4f}.",
            "",
        ]
    )
