"""Fixed-temperature InfoNCE on the same data, steps and backbone, through the same loop."""

from __future__ import annotations

from xalign_dist.config.model import ObjectiveConfig
from xalign_dist.config.run import RunConfig


def infonce_config(config: RunConfig, temperature: float | None = None) -> RunConfig:
    """The baseline of a run: every adaptive part off, everything else as it is.

    Off: dynamic temperature, hardness weights, false-negative mask, structure regulariser,
    language adversary; confidence filter and confidence weights; mined pairs, hence one round.
    The same: corpora, cleaning, encoder, splits, steps, batch, optimiser, seed.

    Args:
        config: our run.
        temperature: of the baseline. None: ``objective.temperature.fixed`` of the run.
    """
    tau = config.objective.temperature.fixed if temperature is None else temperature
    return config.model_copy(
        update={
            "objective": ObjectiveConfig.infonce(tau),
            "pairs": config.pairs.model_copy(
                update={"filter_parallel": False, "use_confidence_as_weight": False, "use_mined": False}
            ),
            "rounds": config.rounds.model_copy(update={"count": 1}),
        }
    )
