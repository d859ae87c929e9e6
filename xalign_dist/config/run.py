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
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        t = self.objective.temperature
        if not t.minimum <= min(t.start, t.end) <= max(t.start, t.end) <= t.maximum:
            raise ValueError("objective.temperature: start and end must lie between minimum and maximum")
        if self.encoder.orthogonal and self.encoder.projection != "linear":
            raise ValueError("encoder.orthogonal needs encoder.projection=linear")
        if self.rounds.count > self.training.steps:
            raise ValueError("rounds.count is larger than training.steps; raise training.steps")
        return self
