"""The baselines of a run by name: how each comes about from the run's config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xalign_dist.baselines.infonce import infonce_config
from xalign_dist.config.run import RunConfig
from xalign_dist.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Baseline:
    """One arm beside ours.

    Attributes:
        name: in metrics.json and in ``evaluation.baselines``.
        label: what the report calls it.
        trained_by: our config -> the config it is trained with. None: it is not trained.
        contextual: False: static vectors, which have no states of words in context.
    """

    name: str
    label: str
    trained_by: Callable[[RunConfig], RunConfig] | None = None
    contextual: bool = True


BASELINES: dict[str, Baseline] = {
    b.name: b
    for b in (
        Baseline("initial", "the encoder as it came"),
        Baseline("infonce", "fixed-temperature InfoNCE", infonce_config),
        Baseline("static", "static vectors with Procrustes", contextual=False),
        Baseline("ppmi", "word vectors of the corpus (PPMI, SVD) with Procrustes", contextual=False),
    )
}


def baseline(name: str) -> Baseline:
    """The baseline of that name.

    Raises:
        ConfigError: no such baseline.
    """
    if name not in BASELINES:
        raise ConfigError(f"baseline {name!r} does not exist", f"use one of: {', '.join(BASELINES)}")
    return BASELINES[name]
