"""A training job as plain data: what every worker gets, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field

from xalign_dist.config.model import EncoderConfig, ObjectiveConfig, TrainingConfig
from xalign_dist.config.tracking import TrackingConfig


@dataclass(frozen=True)
class TrainJob:
    """Train an encoder on a training set over ``start_step <= step < stop_step`` of a schedule.

    A mining round trains one slice of the whole schedule and hands its final checkpoint to the next
    round, which goes on with encoder, optimizer and objective state (so the vocabulary must be the same
    in all rounds).

    Attributes:
        out: directory or URI of the finished encoder.
        work: directory or URI of checkpoints and telemetry; a killed job continues from there.
        training_set: directory written by ``pairs``.
        model: encoder to start from: hub id, local directory, or builtin.
        encoder, training, objective: config sections.
        sampling_temperature: of the mixture over language pairs, see ``pairs.sampling_temperature``.
        start_step: first step, counted over the whole schedule.
        stop_step: step before which this job ends.
        total_steps: length of the whole schedule (learning rate, temperature, adversary follow it).
        seed: of batches, dropout and the discriminator.
        init_checkpoint: the previous round's ``work``, or its final checkpoint. None: start from
            ``model``.
        vocabulary_texts: Parquet (every string column) or text file (a text a line) whose texts the
            vocabulary is trimmed to. None: not trimmed.
        telemetry: file ``NAME.jsonl`` of the steps' figures, shared by the slices of a schedule;
            TensorBoard goes to the folder ``NAME`` beside it. None: ``work/telemetry.jsonl``.
        tracking: who else gets the figures.
    """

    out: str
    work: str
    training_set: str
    model: str
    encoder: EncoderConfig
    training: TrainingConfig
    objective: ObjectiveConfig
    sampling_temperature: float
    start_step: int
    stop_step: int
    total_steps: int
    seed: int
    init_checkpoint: str | None = None
    vocabulary_texts: str | None = None
    telemetry: str | None = None
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass(frozen=True)
class TrainResult:
    """What a job gives back.

    Attributes:
        steps: steps of the schedule that are done.
        final_loss: loss of the last step.
        seconds: this call took, loading and saving included (a continued job: since it continued).
        pairs_per_second: mean over the steps made in this call; 0 if none was left to make.
        model_path: the finished encoder.
        checkpoint: the final checkpoint, for the next round.
        skipped: steps of this call that were left out, because loss or gradient was not finite.
    """

    steps: int
    final_loss: float
    seconds: float
    pairs_per_second: float
    model_path: str
    checkpoint: str
    skipped: int = 0
