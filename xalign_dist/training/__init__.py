"""Training: the loop, engines, cached gradients, checkpoints, telemetry. Torch and transformers suffice."""

from xalign_dist.training.engine import Engine, EngineFactory, EngineState, TorchEngine
from xalign_dist.training.job import TrainJob, TrainResult
from xalign_dist.training.loop import StepRecord, train_steps
from xalign_dist.training.run import run_training

__all__ = [
    "Engine",
    "EngineFactory",
    "EngineState",
    "StepRecord",
    "TorchEngine",
    "TrainJob",
    "TrainResult",
    "run_training",
    "train_steps",
]
