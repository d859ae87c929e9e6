"""A training job from start to finished encoder, in plain Python: torch and transformers are enough."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from xalign_dist.batches import read_step
from xalign_dist.batches.batch import Batch, BatchStream
from xalign_dist.batches.plan import BatchPlan
from xalign_dist.encoder import Encoder, load_encoder, save_encoder, trim_vocabulary
from xalign_dist.encoder.precision import autocast_dtype
from xalign_dist.errors import ConfigError, DataError, Preempted
from xalign_dist.objective import DynamicObjective
from xalign_dist.objective.gather import max_over_ranks
from xalign_dist.objective.gather import rank as on_rank
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.training.checkpoint import Checkpoint, Checkpoints
from xalign_dist.training.divergence import DivergenceGuard
from xalign_dist.training.encode import cut_batch, plan_chunks
from xalign_dist.training.engine import EngineFactory, TorchEngine, load_parameters
from xalign_dist.training.job import TrainJob, TrainResult
from xalign_dist.training.loop import Learner, StepRecord, train_steps
from xalign_dist.training.memory import block_rows, estimate_memory, memory_fault_named
from xalign_dist.training.notice import AskNotice, Notice, no_notice
from xalign_dist.training.optimizer import build_discriminator_optimizer
from xalign_dist.training.rehearsal import longest_step, rehearse
from xalign_dist.training.state import collect, engine_state, restore
from xalign_dist.training.telemetry import Telemetry
from xalign_dist.training.tracking import telemetry_file, trackers_of
from xalign_dist.training.writer import CheckpointWriter

_log = logging.getLogger(__name__)

#: Called after every step, on every rank equally often.
Report = Callable[[StepRecord], None]


def run_training(
    job: TrainJob,
    engine_factory: EngineFactory = TorchEngine,
    report: Report = lambda record: None,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | None = None,
    notice: AskNotice = no_notice,
    say: Callable[[str], None] = _log.info,
) -> TrainResult:
    """Run ``job``, or continue it from its newest checkpoint.

    A killed job continues with the same loss curve: batches, dropout and schedule are pure functions of
    (seed, step), the rest is in the checkpoint. At another world size it continues at the same pair; only
    its dropout is another.

    Args:
        job: what to train.
        engine_factory: builds the engine around the encoder.
        report: called after every step.
        rank, world_size: of the process group, which the caller has set up.
        device: None: the GPU if there is one, else the CPU.
        notice: asked after every step whether to save, or to save and stop.
        say: is told, on rank 0, the estimated memory before anything is built.

    Raises:
        Preempted: ``notice`` said stop; a checkpoint is written.
        XalignError: bad settings or data, no memory, non-finite loss, collapse; see the classes.
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
    checkpoint = _starting_point(job, checkpoints, encoder.device)
    ranks = (rank, world_size)
    learner, plan = _prepared(job, encoder, engine_factory, training_set, checkpoint, ranks, say)
    start = job.start_step if checkpoint is None else checkpoint.step
    loss = float("nan") if checkpoint is None else float(checkpoint.figures["loss"])

    skipped, steps_began = 0, time.perf_counter()
    with CheckpointWriter(checkpoints) as writer:
        cut = partial(cut_batch, encoder=encoder, config=job.training)
        stream = BatchStream(training_set, plan, rank, world_size, start, job.stop_step, prepare=cut)
        for record, telemetry in _steps(job, learner, stream, start, rank):
            loss = record.loss
            skipped += record.skipped
            asked = notice()
            due = record.step % job.training.checkpoint_every == 0 or record.step == job.stop_step
            if due or asked:
                state = collect(learner, record.step, training_set.languages, {"loss": loss})
                if telemetry is not None:
                    telemetry.flush()  # before the checkpoint from which a next run appends to it
                    writer.save(state)
            report(record)
            if asked is Notice.STOP and record.step < job.stop_step:
                raise Preempted(
                    f"training stopped on notice after step {record.step} of {job.stop_step}; its "
                    f"checkpoint is {checkpoints.path(record.step)}",
                    "run the same command to continue",
                )
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
        skipped=skipped,
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


def batch_plan(job: TrainJob, training_set: TrainingSet) -> BatchPlan:
    """Which rows make up each step's batch.

    Raises:
        DataError: fewer pairs or distinct texts than a batch holds.
    """
    return BatchPlan(
        training_set.group_N,
        training_set.src_key_N,
        training_set.tgt_key_N,
        job.training.batch_pairs,
        job.seed,
        job.sampling_temperature,
        job.training.homogeneous_batches,
        training_set.group_names,
    )


def _prepared(
    job: TrainJob,
    encoder: Encoder,
    engine_factory: EngineFactory,
    training_set: TrainingSet,
    checkpoint: Checkpoint | None,
    ranks: tuple[int, int],
    say: Callable[[str], None],
) -> tuple[Learner, BatchPlan]:
    """What trains, from the checkpoint if there is one, and the plan; its longest batch fits the memory."""
    config, (rank, world_size) = job.training, ranks
    if checkpoint is not None:
        load_parameters(encoder, engine_state(checkpoint))
    plan = batch_plan(job, training_set)
    left = range(job.start_step if checkpoint is None else checkpoint.step, job.stop_step)
    longest: Batch | None = None
    if left:
        step = longest_step(plan, training_set, left, config.chunk_pairs is not None)
        longest = read_step(plan, training_set, step, rank, world_size)
    with memory_fault_named("before the training", encoder, config):
        if longest is not None:
            chunks = plan_chunks(
                longest, encoder, config, encoder.device
            )  # all ranks: they agree on a number
            dtype = autocast_dtype(config.precision, encoder.device)
            if rank == 0:
                say(str(estimate_memory(encoder, chunks, config, dtype, world_size)))
        learner = _learner(job, encoder, engine_factory, training_set)
    if checkpoint is not None:
        restore(learner, checkpoint, training_set.languages, same_job=checkpoint.step > job.start_step)
    if longest is not None:
        rehearse(learner, longest, config, job.total_steps, job.seed)
    return learner, plan


def _learner(
    job: TrainJob, encoder: Encoder, engine_factory: EngineFactory, training_set: TrainingSet
) -> Learner:
    languages, rows = len(training_set.languages), block_rows(job.training.batch_pairs)
    objective = DynamicObjective(job.objective, encoder.dim, languages, job.seed, rows)
    engine = engine_factory(encoder, job.training)
    objective.to(engine.device)
    discriminator = build_discriminator_optimizer(objective, job.training)
    return Learner(engine, objective, discriminator, DivergenceGuard(job.training))


def _starting_point(job: TrainJob, checkpoints: Checkpoints, device: torch.device) -> Checkpoint | None:
    """The same on every rank: rank 0 looks for the newest valid one, the others read that one."""
    newest: Checkpoint | None = None
    if on_rank() == 0:
        checkpoints.sweep()
        newest = checkpoints.newest()
    step = max_over_ranks(-1 if newest is None else newest.step, device)
    if step >= 0:
        return newest if newest is not None else Checkpoints.load(checkpoints.path(step))
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
    job: TrainJob, learner: Learner, stream: BatchStream, start: int, rank: int
) -> Iterator[tuple[StepRecord, Telemetry | None]]:
    """The steps that are left, and the telemetry, which rank 0 writes."""
    with ExitStack() as stack:
        stack.enter_context(stream)
        telemetry = (
            stack.enter_context(Telemetry(telemetry_file(job), start, trackers_of(job)))
            if rank == 0
            else None
        )
        for record in train_steps(learner, stream, job.training, job.total_steps, job.seed):
            if telemetry is not None:
                telemetry.write(record.to_json())
            yield record, telemetry


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
