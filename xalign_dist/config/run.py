"""The whole config, one object for one run."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from xalign_dist.config.base import Section
from xalign_dist.config.data import CleaningConfig, CorpusConfig, PairsConfig
from xalign_dist.config.method import (
    EvaluationConfig,
    MiningConfig,
    RoundsConfig,
    RuntimeConfig,
    ScoringConfig,
)
from xalign_dist.config.model import EncoderConfig, ObjectiveConfig, TrainingConfig
from xalign_dist.config.tracking import TrackingConfig


class RunConfig(Section):
    """Everything `xalign run` needs. Printed by `xalign schema`, saved as RUN/config.yaml."""

    seed: int = Field(0, ge=0, description="Of every random choice.")
    corpora: list[CorpusConfig] = Field(
        default_factory=list, description="What is read: parallel text and monolingual sides."
    )
    cleaning: CleaningConfig = CleaningConfig()
    encoder: EncoderConfig = EncoderConfig()
    scoring: ScoringConfig = ScoringConfig()
    mining: MiningConfig = MiningConfig()
    pairs: PairsConfig = PairsConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()
    rounds: RoundsConfig = RoundsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        t = self.objective.temperature
        if not t.minimum <= min(t.start, t.end) <= max(t.start, t.end) <= t.maximum:
            raise ValueError("objective.temperature: start and end must lie between minimum and maximum")
        if self.encoder.orthogonal and self.encoder.projection != "linear":
            raise ValueError("encoder.orthogonal needs encoder.projection=linear")
        if self.encoder.lora_rank is None and (self.encoder.lora_targets or self.encoder.lora_alpha):
            raise ValueError("encoder.lora_targets and lora_alpha need encoder.lora_rank")
        if self.encoder.attention == "flash" and self.training.precision == "fp32":
            raise ValueError(
                "encoder.attention=flash computes in bf16 or fp16, but training.precision is fp32; "
                "set encoder.attention=auto or training.precision=bf16"
            )
        if self.rounds.count > self.training.steps:
            raise ValueError("rounds.count is larger than training.steps; raise training.steps")
        workers = max(self.runtime.train_workers or 1, self.runtime.train_workers_max or 1)
        if workers > self.training.batch_pairs:
            raise ValueError(
                f"training.batch_pairs ({self.training.batch_pairs}) cannot be shared by {workers} workers; "
                "raise training.batch_pairs or lower runtime.train_workers"
            )
        deepspeed = self.training.deepspeed
        if self.runtime.train_workers == 0 and (deepspeed.zero_stage > 0 or deepspeed.extra):
            raise ValueError(
                "runtime.train_workers=0 trains without DeepSpeed, but training.deepspeed is set; "
                "set runtime.train_workers=1, or training.deepspeed.zero_stage=0 without extra"
            )
        return self
