"""Settings of experiment tracking beside TensorBoard, which is always written."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from xalign_dist.config.base import Section


class TrackingConfig(Section):
    """MLflow and Weights & Biases. Tokens come from the environment only, as their own clients read them."""

    mlflow: str | None = Field(
        None, description="MLflow tracking URI, e.g. file:///runs/mlflow or https://host. None: off."
    )
    wandb: str | None = Field(None, description="Weights & Biases project. None: off.")
    wandb_mode: Literal["online", "offline"] = Field(
        "online", description="offline: written beside the telemetry, for `wandb sync` later."
    )
    experiment: str = Field("xalign_dist", description="MLflow experiment, or group in W&B.")
    every: int = Field(10, ge=1, description="Steps whose figures are sent together; none is left out.")

    @field_validator("mlflow")
    @classmethod
    def _no_secret(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).password:
            raise ValueError(
                "a URI with a password would be written to config.yaml; set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the environment of the workers"
            )
        return value
