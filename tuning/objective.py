"""What a trial does: the rounds of a run under its settings, judged on the development pairs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tuning.space import configure
from tuning.sweep import Objective, Report
from xalign_dist.config import EncoderConfig, RunConfig, dump_config
from xalign_dist.encoder import Embedder, load_encoder
from xalign_dist.errors import DataError
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.context import RunContext, open_run
from xalign_dist.pipeline.corpus import Corpus
from xalign_dist.pipeline.evaluate import retrieval_accuracy
from xalign_dist.pipeline.rounds import ADAPTIVE, embed, one_round, prepare

METRIC = "dev_accuracy"


def prepare_shared(context: RunContext) -> None:
    """Clean and embed once for all trials, in the run directory of ``context``.

    Raises:
        DataError: there are no development pairs to judge trials by.
    """
    corpus = prepare(context)
    if not corpus.dev.num_rows:
        raise DataError(
            "no development pairs, so trials cannot be compared",
            "give parallel text among `corpora`, or evaluation.dev_pairs",
        )
    embed(context, corpus, context.config.scoring.reference, "embed with the reference encoder")


def pipeline_objective(base: Mapping[str, Any], shared: str) -> Objective:
    """An objective that runs every round and reports ``dev_accuracy`` after each.

    The test pairs are never looked at: they are for the run that follows the sweep.

    Args:
        base: the config that is varied.
        shared: run directory that :func:`prepare_shared` filled. A trial starts from its
            clean corpora and vectors; what a trial's settings change is made anew.
    """

    def objective(overrides: Sequence[str], folder: str, report: Report) -> Mapping[str, float]:
        config = configure(base, overrides, "trial")
        _start_from(Path(shared), Path(folder), config)
        with (
            (Path(folder) / "logs" / "trial.log").open("a", encoding="utf-8") as log,
            open_run(config, folder, Screen(enabled=False, console=Console(file=log))) as context,
        ):
            corpus = prepare(context)
            reference = embed(context, corpus, config.scoring.reference, "embed with the reference encoder")
            for number in range(1, config.rounds.count):
                one_round(context, corpus, reference, number)
                report({METRIC: _dev_accuracy(context, corpus, number)})
            one_round(context, corpus, reference, config.rounds.count)
            return {METRIC: _dev_accuracy(context, corpus, config.rounds.count)}

    return objective


def _dev_accuracy(context: RunContext, corpus: Corpus, number: int) -> float:
    model = str(context.run.arm(ADAPTIVE, number) / "model")
    return retrieval_accuracy(Embedder(load_encoder(model, EncoderConfig(model=model))), corpus.dev)


def _start_from(shared: Path, folder: Path, config: RunConfig) -> None:
    """Give a new trial the shared corpora, by hard links: no time and no space."""
    if folder.exists():
        return
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(shared / "corpus", aside / "corpus", copy_function=os.link)
    shutil.copy(shared / "manifest.json", aside / "manifest.json")
    (aside / "config.yaml").write_text(dump_config(config), "utf-8")
    (aside / "logs").mkdir()
    aside.rename(folder)
