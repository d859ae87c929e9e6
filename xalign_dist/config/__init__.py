"""Validated settings. Free of torch and Ray, so that a fault shows before anything starts."""

from xalign_dist.config.data import CleaningConfig, CorpusConfig, PairsConfig
from xalign_dist.config.deepspeed import DeepSpeedConfig
from xalign_dist.config.load import dump_config, load_config, parse_config
from xalign_dist.config.method import (
    EvaluationConfig,
    MiningConfig,
    RoundsConfig,
    RuntimeConfig,
    ScoringConfig,
)
from xalign_dist.config.model import EncoderConfig, ObjectiveConfig, TrainingConfig
from xalign_dist.config.run import RunConfig
from xalign_dist.config.tracking import TrackingConfig

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
    "TrackingConfig",
    "TrainingConfig",
    "dump_config",
    "load_config",
    "parse_config",
]
