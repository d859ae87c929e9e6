"""What a trial does: the rounds of a run under its settings, judged on the development pairs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from tuning.space import configure, override
from tuning.trial import Objective, Report
from xalign_dist.config import EncoderConfig, RunConfig, dump_config
from xalign_dist.encoder import Embedder, load_encoder
from xalign_dist.errors import DataError
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.context import RunContext, open_run
from xalign_dist.pipeline.corpus import Corpus
from xalign_dist.pipeline.evaluate import check_suite, retrieval_accuracy
from xalign_dist.pipeline.rounds import ADAPTIVE, embed, find_pairs, one_round, prepare
from xalign_dist.pipeline.rundir import RunDir
from xalign_dist.runtime.embed_pool import embed_pool
from xalign_dist.runtime.faults import for_workers
from xalign_dist.runtime.vector_store import VectorStore

METRIC = "dev_accuracy"
_REFERENCE = "embed with the reference encoder"


def located(settings: RunConfig) -> RunConfig:
    """``settings`` with local paths as a trial finds them, whose working directory may be another."""
    corpora = [
        c.model_copy(update={k: for_workers(v) for k in ("path", "target_path") if (v := getattr(c, k))})
        for c in settings.corpora
    ]
    dev = settings.evaluation.dev_pairs
    evaluation = settings.evaluation.model_copy(update={"dev_pairs": for_workers(dev) if dev else None})
    encoder = settings.encoder.model_copy(update={"model": for_workers(settings.encoder.model)})
    scoring = settings.scoring.model_copy(update={"reference": for_workers(settings.scoring.reference)})
    parts = {"corpora": corpora, "evaluation": evaluation, "encoder": encoder, "scoring": scoring}
    return settings.model_copy(update=parts)


def prepare_shared(context: RunContext, judged: bool = True) -> Corpus:
    """Clean, embed, score and mine once for all trials, in the run directory of ``context``.

    Args:
        context: of the shared run.
        judged: whether trials are compared on the development pairs.

    Raises:
        ConfigError: a fault in the suite.
        DataError: a fault in its tables; there are no development pairs to judge trials by.
    """
    check_suite(context.config)
    corpus = prepare(context)
    if judged and not corpus.dev.num_rows:
        raise DataError(
            "no development pairs, so trials cannot be compared",
            "give parallel text among `corpora`, or evaluation.dev_pairs",
        )
    reference = embed(context, corpus, context.config.scoring.reference, _REFERENCE)
    find_pairs(context, corpus, reference, None, 1)
    return corpus


def prepare_seed(context: RunContext, base: Mapping[str, Any], seed: int) -> None:
    """What trials under another seed share: it holds out other pairs, so that their rest is scored anew.

    Beside the shared run of ``context``, from which it takes what does not depend on the seed.
    """
    home = _of_seed(context.run.root, seed)
    config = configure(base, [override("seed", seed)], "finalist")
    _start_from(context.run.root, home, config)
    with _quietly(config, home, "prepare.log") as own:
        prepare_shared(own)


def _of_seed(shared: Path, seed: int) -> Path:
    return shared.with_name(f"{shared.name}-seed={seed}")


def pipeline_objective(
    base: Mapping[str, Any], shared: str, places: Mapping[tuple[str, ...], str] | None = None
) -> Objective:
    """An objective that runs every round and reports ``dev_accuracy`` after each.

    The test pairs are never looked at: they are for the winner, once, after the sweep.

    Args:
        base: the config that is varied.
        shared: run directory that :func:`prepare_shared` filled. A trial starts from its
            clean corpora, vectors and scored pairs; what a trial's settings change is made anew.
        places: run directories of trials by their overrides, where they are not the trials' own folders.
    """

    def objective(overrides: Sequence[str], folder: str, report: Report, /) -> Mapping[str, float]:
        home = Path((places or {}).get(tuple(overrides), folder))
        with trial_run(base, shared, overrides, home) as (context, corpus, reference):
            accuracy, rounds = 0.0, context.config.rounds.count
            for number in range(1, rounds + 1):
                one_round(context, corpus, reference, number)
                accuracy = dev_accuracy(context, corpus, number)
                if number < rounds:
                    report({METRIC: accuracy})
            _release(context.run, rounds)
        return {METRIC: accuracy}

    return objective


@contextmanager
def trial_run(
    base: Mapping[str, Any], shared: str, overrides: Sequence[str], home: Path
) -> Iterator[tuple[RunContext, Corpus, VectorStore]]:
    """A trial's run in ``home``, up to where its rounds begin; the reference's vectors are the last part."""
    config = configure(base, overrides, "trial")
    own = _of_seed(Path(shared), config.seed)
    _start_from(own if own.exists() else Path(shared), home, config)
    with _quietly(config, home, "trial.log") as context:
        corpus = prepare(context)
        yield context, corpus, embed(context, corpus, config.scoring.reference, _REFERENCE)


@contextmanager
def _quietly(config: RunConfig, home: Path, name: str) -> Iterator[RunContext]:
    """The run in ``home``, whose screen is the file ``name`` among its logs."""
    with (
        (home / "logs" / name).open("a", encoding="utf-8") as log,
        open_run(config, str(home), Screen(enabled=False, console=Console(file=log))) as context,
    ):
        yield context


def trained_model(folder: str, config: RunConfig) -> str:
    """Where a trial that ended has its encoder."""
    return str(Path(folder) / "arms" / ADAPTIVE / f"round={config.rounds.count}" / "model")


def dev_accuracy(context: RunContext, corpus: Corpus, number: int) -> float:
    """Retrieval on the development pairs by the encoder of round ``number``.

    On GPUs an actor that holds the trial's share of one embeds them: the trial's own process has none.
    """
    model = str(context.run.arm(ADAPTIVE, number) / "model")
    encoder, runtime, resources = EncoderConfig(model=model), context.config.runtime, context.resources
    if not resources.embed_gpus(runtime):
        return retrieval_accuracy(Embedder(load_encoder(model, encoder, "cpu")), corpus.dev)
    with embed_pool(model, encoder, runtime, resources) as embedder:
        return retrieval_accuracy(embedder, corpus.dev)


def _release(run: RunDir, rounds: int) -> None:
    """Leave only the last encoder of a trial that ended: a sweep would fill the disk with optimizer states.

    A trial that ended is never continued.
    """
    for number in range(1, rounds + 1):
        for part in ("work", "training_set", "ray", *(["model"] if number < rounds else [])):
            shutil.rmtree(run.arm(ADAPTIVE, number) / part, ignore_errors=True)


def _start_from(shared: Path, folder: Path, config: RunConfig) -> None:
    """Give a new trial what is there already, by hard links: no time and no space.

    Files of a run are written aside and renamed, so that a trial that makes one anew leaves the others'.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    ours, theirs = RunDir(shared), RunDir(aside)
    shutil.copytree(ours.corpus, theirs.corpus, copy_function=os.link)
    shutil.copytree(ours.round(1), theirs.round(1), copy_function=os.link)
    shutil.copy(shared / "manifest.json", aside / "manifest.json")
    (aside / "config.yaml").write_text(dump_config(config), "utf-8")
    (aside / "logs").mkdir()
    aside.rename(folder)
