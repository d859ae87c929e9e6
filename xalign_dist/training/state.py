"""Everything that a checkpoint holds of a training, collected and put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from xalign_dist.objective import DynamicObjective
from xalign_dist.training.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from xalign_dist.training.engine import EngineState
from xalign_dist.training.loop import Learner

_PER_LANGUAGE = ("adversary.output.weight", "adversary.output.bias")


def collect(learner: Learner, step: int, languages: list[str], figures: dict[str, Any]) -> Checkpoint:
    """The training after ``step`` steps. All ranks take part; rank 0's is whole.

    Every tensor is a copy in main memory: it is written while the next steps change the originals.
    ``languages`` names the adversary's classes, which may be others in the next round.
    """
    engine = learner.engine.state()
    watched = {} if learner.divergence is None else {"divergence": learner.divergence.state()}
    return Checkpoint(
        step=step,
        tensors={
            "encoder": engine.parameters,
            "optimizer": engine.moments,
            "objective": _copied(learner.objective.state_dict()),
            "discriminator": _copied(optimizer_tensors(learner.discriminator)),
        },
        figures=figures
        | watched
        | {"updates": engine.updates, "loss_scale": engine.loss_scale, "languages": languages},
    )


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}


def engine_state(checkpoint: Checkpoint) -> EngineState:
    """The engine's part of ``checkpoint``."""
    tensors = checkpoint.tensors
    figures = checkpoint.figures
    return EngineState(
        tensors["encoder"], tensors["optimizer"], figures["updates"], figures.get("loss_scale")
    )


def restore(learner: Learner, checkpoint: Checkpoint, languages: list[str], same_job: bool) -> None:
    """Continue ``learner`` from ``checkpoint``, whose parameters its encoder has. All ranks pass the same.

    ``same_job``: it was written by the job that continues, not by the round before, whose pairs and
    losses were others: only then does the guard against divergence remember.

    Where the languages have changed (a round added some), the discriminator keeps what it knows of
    the old ones and its optimizer starts anew.
    """
    learner.engine.load_moments(engine_state(checkpoint))
    tensors, before = checkpoint.tensors, checkpoint.figures["languages"]
    objective = tensors["objective"]
    if before == languages:
        restore_optimizer(learner.discriminator, tensors["discriminator"])
    else:
        objective = _by_language(learner.objective, objective, before, languages)
    learner.objective.load_state_dict(objective)
    watched = checkpoint.figures.get("divergence")
    if same_job and learner.divergence is not None and watched is not None:
        learner.divergence.load(watched)


def _by_language(
    objective: DynamicObjective, saved: dict[str, Tensor], before: list[str], now: list[str]
) -> dict[str, Tensor]:
    fresh = objective.state_dict()
    state = {key: saved.get(key, value) for key, value in fresh.items()}
    for key in _PER_LANGUAGE:
        if key in fresh:
            rows = fresh[key].clone()
            for number, language in enumerate(now):
                if key in saved and language in before:
                    rows[number] = saved[key][before.index(language)].to(rows)
            state[key] = rows
    return state
