"""A pipeline run as a line of a population: round by round, and on from another run's state."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tuning.objective import METRIC, dev_accuracy, trial_run
from tuning.space import Space, configure
from xalign_dist.config import dump_config
from xalign_dist.errors import ConfigError
from xalign_dist.pipeline.rounds import ADAPTIVE, one_round
from xalign_dist.pipeline.rundir import RunDir, write_json

VARIES = (
    "training.learning_rate",
    "training.warmup_share",
    "training.weight_decay",
    "training.clip_norm",
    "objective.temperature.*",
    "objective.hardness.beta",
    "objective.false_negatives.*",
    "objective.regulariser.*",
    "objective.adversary.weight",
    "objective.adversary.warmup",
    "objective.adversary.ramp",
    "objective.adversary.decay_from",
    "pairs.target_noise",
    "pairs.use_confidence_as_weight",
    "pairs.sampling_temperature",
    "mining.min_confidence",
)
"""What may change between rounds: read anew in each, and no part of the shape of what is carried over."""
_ROUND = re.compile(r"\bround[ =](\d+)")


def check_varies(space: Space) -> None:
    """Refuse a population whose settings cannot change on the way.

    Raises:
        ConfigError: names the setting.
    """
    for key in space.parameters:
        if key.endswith(".enabled") or not any(fnmatchcase(key, pattern) for pattern in VARIES):
            raise ConfigError(
                f"{key} cannot change between rounds, as --scheduler pbt would: the state of a run and what "
                "was prepared for it were made under its value",
                "move it to `fixed`, or use --scheduler asha; pbt varies learning rate, weight decay, "
                "warm-up, numbers of the objective, and thresholds of pairs",
            )
    if "rounds.count" in space.fixed:
        raise ConfigError(
            "rounds.count is fixed in the space, but the number of rounds is the population's",
            "give it in the config or on the command line",
        )


class PipelineRounds:
    """Rounds of runs under ``base``, from what :func:`tuning.objective.prepare_shared` put in ``shared``."""

    def __init__(self, base: Mapping[str, Any], shared: str) -> None:
        self.base, self.shared = dict(base), shared

    def run(self, overrides: Sequence[str], folder: str, number: int) -> Mapping[str, float]:
        """Score, mine and train round ``number``; the accuracy on the development pairs.

        The rounds before are not looked at again: they may have been made under other settings.
        """
        with trial_run(self.base, self.shared, overrides, Path(folder)) as (context, corpus, reference):
            one_round(context, corpus, reference, number)
            return {METRIC: dev_accuracy(context, corpus, number)}

    def take_over(
        self, donor: str, folder: str, number: int, overrides: Sequence[str], lineage: Sequence[Any]
    ) -> None:
        """Make ``folder`` of ``donor``'s first ``number`` rounds, and lineage.json of where they are from.

        By hard links, for files that are written aside and renamed; telemetry is appended to: a copy.
        """
        home = Path(folder)
        if home.exists():
            return
        aside = home.with_name(f".{home.name}.{os.getpid()}")
        shutil.rmtree(aside, ignore_errors=True)
        ours, theirs = RunDir(Path(donor)), RunDir(aside)
        shutil.copytree(ours.corpus, theirs.corpus, copy_function=os.link)
        for past in range(1, number + 1):
            shutil.copytree(ours.round(past), theirs.round(past), copy_function=os.link)
            shutil.copytree(
                ours.arm(ADAPTIVE, past),
                theirs.arm(ADAPTIVE, past),
                copy_function=os.link,
                ignore=shutil.ignore_patterns("ray"),
            )
        telemetry = ours.telemetry(ADAPTIVE).parent
        if telemetry.exists():
            shutil.copytree(telemetry, theirs.telemetry(ADAPTIVE).parent)
        _manifest(ours.root / "manifest.json", aside / "manifest.json", number)
        write_json(aside / "lineage.json", {"schema": 1, "lineage": list(lineage)})
        (aside / "config.yaml").write_text(dump_config(configure(self.base, overrides, "trial")), "utf-8")
        (aside / "logs").mkdir()
        aside.rename(home)


def _manifest(source: Path, target: Path, number: int) -> None:
    """The stages of the first ``number`` rounds and those before any."""
    data = json.loads(source.read_text("utf-8"))
    found = {name: _ROUND.search(name) for name in data["stages"]}
    kept = [name for name, match in found.items() if match is None or int(match[1]) <= number]
    write_json(target, {**data, "stages": {name: data["stages"][name] for name in kept}})
