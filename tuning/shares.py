"""How much of the cluster one trial takes, and how many run at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tuning.guard import budget_hours
from tuning.space import Space
from tuning.sweep import Limits
from xalign_dist.config import RunConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.errors import ConfigError
from xalign_dist.runtime.resources import Resources

SMALL_PARAMETERS = 150_000_000
_SMALL_SHARE = 0.25


def with_gpus(plan: Space, settings: RunConfig, resources: Resources) -> Resources:
    """``resources`` with the GPUs that the groups may grow to, where config, space or budget ask for GPUs.

    A group at rest has no GPU, and the trials bring its nodes. Without such a word nobody pays for them.
    """
    hours = (plan.budget or "").endswith("gpuh")
    if not (settings.runtime.gpus_per_worker or plan.trial_gpus or hours):
        return resources
    return replace(resources, gpus=resources.reachable_gpus(settings.runtime.node_labels))


def trial_runtime(plan: Space, settings: RunConfig, resources: Resources) -> dict[str, Any]:
    """Settings of ``runtime`` for a trial: one worker with its share of a GPU, unless the config says."""
    if not resources.gpus:
        return {}
    share = settings.runtime.gpus_per_worker
    if share is None:
        share = plan.trial_gpus or _share(settings)
    return {
        "gpus_per_worker": share,
        "train_workers": settings.runtime.train_workers or 1,
        "embed_actors": settings.runtime.embed_actors or 1,
    }


def limits(plan: Space, settings: RunConfig, resources: Resources) -> Limits:
    """Concurrency and budget on this cluster.

    Raises:
        ConfigError: a trial asks for more GPUs than there are, or GPU hours without GPUs.
    """
    runtime = trial_runtime(plan, settings, resources)
    gpus = runtime["gpus_per_worker"] * runtime["train_workers"] if runtime else 0.0
    if gpus > resources.gpus:
        raise ConfigError(
            f"a trial asks for {gpus:g} GPUs and the cluster has {resources.gpus}",
            "lower runtime.train_workers or runtime.gpus_per_worker",
        )
    if plan.max_concurrent != "auto":
        concurrent = plan.max_concurrent
    elif gpus:
        concurrent = int(resources.gpus / gpus)
    else:
        concurrent = max(1, resources.cpus // 2)
    concurrent = min(concurrent, plan.trials())
    hours, rate = budget_hours(plan.budget, gpus, resources.cpus / concurrent)
    return Limits(concurrent, hours, rate, settings.runtime.max_failures)


def _share(settings: RunConfig) -> float:
    encoder = load_encoder(settings.encoder.model, settings.encoder, "cpu")
    parameters = sum(p.numel() for p in encoder.parameters())
    return _SMALL_SHARE if parameters <= SMALL_PARAMETERS else 1.0
