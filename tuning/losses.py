"""What the loss of a trial's process or node cost, said when Tune runs the trial again."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from xalign_dist.runtime.lost_time import lost


class Losses(Callback):
    """Looks at the clock when an attempt begins and when it is lost."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """An attempt begins."""
        self._began[trial.trial_id] = time.monotonic()

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """A sweep may have very many trials."""
        self._began.pop(trial.trial_id, None)

    def on_trial_recover(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """An attempt was lost, and there will be another one."""
        began = self._began.pop(trial.trial_id, None)
        if began is not None:
            seconds = time.monotonic() - began
            lost(
                f"trial {trial.trial_id} lost its process or node after {seconds:.1f} s and runs again: "
                "stages that it finished stay",
                trial=trial.trial_id,
                seconds=round(seconds, 2),
            )
