"""Validated settings. Free of torch and Ray, so that a fault shows before anything starts."""

from xalign_dist.config.data import CleaningConfig, CorpusConfig, PairsConfig
from xalign_dist.config.load import dump_config, load_config, parse_config
from xalign_dist.config.method import (
    EvaluationConfig,
    MiningConfig,
    RoundsConfig,
    RuntimeConfig,
    ScoringConfig,
)
from xalign_dist.config.model import DeepSpeedConfig, EncoderConfig, ObjectiveConfig, TrainingConfig
from xalign_dist.config.run import RunConfig

__all__ = [
    "CleaningConfig",
    "CorpusConfig",
    "DeepSpeedConfig",
    "EncoderConfig",
    "EvaluationConfig",
    "MiningConfig",
    "ObjectiveConfig",
    "PairsConfig",
    "RoundsConfig",
    "RunConfig",
    "RuntimeConfig",
    "ScoringConfig",
    "TrainingConfig",
    "dump_config",
    "load_config",
    "parse_config",
]
