"""The base of every config section: unknown keys are errors, values are frozen."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A config section. Immutable after validation, so that stages cannot change it."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
