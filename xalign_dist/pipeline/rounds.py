"""The whole story on one page: clean, embed, then rounds of score, mine, train; then evaluate, report."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from rich.markup import escape

from xalign_dist.baselines.infonce import infonce_config
from xalign_dist.config import RunConfig
from xalign_dist.corpora.tables import read_table, write_table
from xalign_dist.pairs.select import require_pairs, select_pairs
from xalign_dist.pipeline import clean as clean_stage
from xalign_dist.pipeline.console import Advance, Screen, run_stage
from xalign_dist.pipeline.context import RunContext, open_run
from xalign_dist.pipeline.corpus import Corpus, open_corpus
from xalign_dist.pipeline.evaluate import check_suite, evaluate_run, retrieval_accuracy
from xalign_dist.pipeline.manifest import digest, file_digest, place_digest
from xalign_dist.pipeline.mine import check_room, mine_round
from xalign_dist.pipeline.report import report_run
from xalign_dist.pipeline.score import PAIRS_FILE, score_table, thresholds
from xalign_dist.pipeline.train import (
    VOCABULARY_FILE,
    Slice,
    start_slice,
    train_slice,
    trained_from,
    write_vocabulary,
)
from xalign_dist.pipeline.truth import Truth
from xalign_dist.runtime.metrics import observe_noise
from xalign_dist.runtime.vector_store import VectorStore
from xalign_dist.runtime.vectors import EmbedJob, embed_corpus, open_embedded
from xalign_dist.scoring import AuditEntry, read_audit, write_audit

ADAPTIVE, INFONCE = "adaptive", "infonce"


def run_all(config: RunConfig, out: str, screen: Screen, truth: Truth | None = None) -> Path:
    """Run every stage of ``config`` into ``out``; finished stages are skipped. Returns the run directory."""
    check_suite(config)
    with open_run(config, out, screen) as context:
        corpus = prepare(context)
        if config.pairs.use_mined and corpus.sides:
            check_room(context, corpus.sides.values())
        reference = embed(context, corpus, config.scoring.reference, "embed with the reference encoder")
        for number in range(1, config.rounds.count + 1):
            one_round(context, corpus, reference, number)
        if INFONCE in config.evaluation.baselines and corpus.pairs.num_rows:
            train_baseline(context, corpus)
        evaluate_run(context, corpus, truth)
        report_run(context)
        return context.run.root


def prepare(context: RunContext) -> Corpus:
    """Clean the corpora, hold out dev and test, fix the vocabulary."""
    config, run = context.config, context.run

    def work(advance: Advance) -> dict[str, object]:
        counts = clean_stage.clean(config.corpora, config.cleaning, run.corpus, advance)
        write_vocabulary(open_corpus(config, run.corpus).training_texts(), run.corpus / VOCABULARY_FILE)
        return counts

    inputs = digest(
        [c.model_dump() for c in config.corpora],
        [place_digest(p) for c in config.corpora for p in (c.path, c.target_path) if p is not None],
        config.cleaning.model_dump(),
        config.pairs.test_share,
        config.pairs.dev_share,
        None if config.evaluation.dev_pairs is None else place_digest(config.evaluation.dev_pairs),
    )
    outputs = [run.corpus / "rejects.parquet", run.corpus / VOCABULARY_FILE]
    run_stage(context.screen, context.manifest, "clean", "clean the corpora", inputs, outputs, work)
    return open_corpus(config, run.corpus)


def embed(context: RunContext, corpus: Corpus, model: str, title: str) -> VectorStore:
    """Vectors of every training and dev text by ``model``; blocks already on disk are not made again."""
    config = context.config
    texts = list(dict.fromkeys(corpus.training_texts() + corpus.dev_texts()))
    mines = bool(corpus.sides) and config.mining.second_view == "layer"
    layer = config.mining.view_layer if mines else None
    job = EmbedJob(model, config.encoder, config.runtime.embed_batch, layer)
    there = open_embedded(texts, job, str(context.run.vectors))
    if there is not None:
        context.screen.skipped(title)
        return there
    with context.screen.stage(title, len(texts), "texts") as advance:

        def work() -> dict[str, object]:
            embed_corpus(texts, job, str(context.run.vectors), config.runtime, context.resources, advance)
            return {"texts": len(texts)}

        context.manifest.run(title, digest(job.fingerprint(), texts), [context.run.vectors], work)
    return embed_corpus(texts, job, str(context.run.vectors), config.runtime, context.resources)


def one_round(context: RunContext, corpus: Corpus, reference: VectorStore, number: int) -> None:
    """Score, mine, train."""
    label_round(context, corpus, reference, number)
    _train(context, reference, number)


def label_round(context: RunContext, corpus: Corpus, reference: VectorStore, number: int) -> None:
    """Score and mine. The trained encoder mines once it passes the reference on the dev pairs."""
    vectors, second = reference, None
    if number > 1:
        trained = embed(
            context,
            corpus,
            str(context.run.arm(ADAPTIVE, number - 1) / "model"),
            f"round {number}: embed with the trained encoder",
        )
        vectors, second = _who_mines(context, corpus, reference, trained, number)
    find_pairs(context, corpus, vectors, second, number)


def find_pairs(
    context: RunContext, corpus: Corpus, vectors: VectorStore, second: VectorStore | None, number: int
) -> None:
    """Score the parallel text and mine the rest: what round ``number`` trains on."""
    home = context.run.round(number)
    _score(context, corpus, vectors, number)
    _mine(context, corpus, vectors, second, number)
    entries = [e for part in ("parallel", "mined") for e in _audit_of(home / part)]
    observe_noise(entries)
    write_audit(entries, home / "audit.json")


def _audit_of(folder: Path) -> list[AuditEntry]:
    path = folder / "audit.json"
    return list(read_audit(path)) if path.exists() else []


def _who_mines(
    context: RunContext, corpus: Corpus, reference: VectorStore, trained: VectorStore, number: int
) -> tuple[VectorStore, VectorStore]:
    """(main view, second view): the better encoder on dev leads, the other one checks."""
    ours, theirs = retrieval_accuracy(trained, corpus.dev), retrieval_accuracy(reference, corpus.dev)
    takes_over = context.config.rounds.takeover and ours > theirs
    who = "the trained encoder mines" if takes_over else "the reference goes on mining"
    context.screen.say(
        f"      round {number}: dev accuracy trained {ours:.3f}, reference {theirs:.3f}: {who}"
    )
    return (trained, reference) if takes_over else (reference, trained)


def _score(context: RunContext, corpus: Corpus, vectors: VectorStore, number: int) -> None:
    config, out = context.config, context.run.round(number) / "parallel"
    if not corpus.pairs.num_rows:
        return
    inputs = digest(
        number, vectors.identity, config.scoring.model_dump(), config.pairs.target_noise, config.seed
    )
    run_stage(
        context.screen,
        context.manifest,
        f"round {number}: score",
        f"round {number}: score parallel pairs",
        inputs,
        [out / PAIRS_FILE, out / "audit.json"],
        lambda advance: score_table(
            corpus.pairs,
            vectors,
            config.scoring,
            config.pairs.target_noise,
            out,
            round_=number,
            seed=config.seed,
            advance=advance,
        ),
        corpus.pairs.num_rows,
        "pairs",
    )


def _mine(
    context: RunContext, corpus: Corpus, vectors: VectorStore, second: VectorStore | None, number: int
) -> None:
    config, out = context.config, context.run.round(number) / "mined"
    if not corpus.sides or not config.pairs.use_mined:
        return
    inputs = digest(
        number,
        vectors.identity,
        None if second is None else second.identity,
        config.mining.model_dump(exclude={"shards"}),
        config.seed,
    )
    rows = sum(s.target.num_rows for s in corpus.sides.values())
    run_stage(
        context.screen,
        context.manifest,
        f"round {number}: mine",
        f"round {number}: mine monolingual text",
        inputs,
        [out / PAIRS_FILE, out / "audit.json"],
        lambda advance: mine_round(context, corpus.sides, vectors, second, number, advance),
        rows,
        "sentences",
    )


def training_pairs(context: RunContext, number: int) -> pa.Table:
    """The weighted pairs of round ``number``: filtered parallel text and reliable pseudo-labels."""
    home = context.run.round(number)
    parallel, mined = (home / part / PAIRS_FILE for part in ("parallel", "mined"))
    limits = thresholds(read_audit(home / "parallel" / "audit.json")) if parallel.exists() else {}
    selection = select_pairs(
        read_table(str(parallel)) if parallel.exists() else read_table(str(mined)).slice(0, 0),
        read_table(str(mined)) if mined.exists() else None,
        limits,
        context.config.pairs,
        context.config.mining.min_confidence,
    )
    return require_pairs(selection)


def _train(context: RunContext, reference: VectorStore, number: int) -> None:
    config = context.config
    steps, rounds = config.training.steps, config.rounds.count
    part = Slice(ADAPTIVE, number, steps * (number - 1) // rounds, steps * number // rounds)
    previous = context.run.arm(ADAPTIVE, number - 1) / "work" if number > 1 else None
    train_stage(
        context,
        part,
        training_pairs(context, number),
        config,
        reference if config.objective.regulariser.enabled else None,
        previous,
        f"round {number}: train",
    )


def train_baseline(context: RunContext, corpus: Corpus) -> None:
    """Fixed-temperature InfoNCE on every parallel pair, with the same steps in one go."""
    config = infonce_config(context.config)
    scored = read_table(str(context.run.round(1) / "parallel" / PAIRS_FILE))
    pairs = select_pairs(scored, None, {}, config.pairs, 0.0).pairs
    part = Slice(INFONCE, 1, 0, config.training.steps)
    train_stage(context, part, pairs, config, None, None, "train the InfoNCE baseline")


def train_stage(
    context: RunContext,
    part: Slice,
    pairs: pa.Table,
    config: RunConfig,
    reference: VectorStore | None,
    previous: Path | None,
    title: str,
) -> dict[str, object]:
    """Train one slice of one arm as a stage of the run; its counts.

    What an earlier training of the slice left behind is gone on with only where it was of the same inputs:
    its last checkpoint would else stand for the training that grown corpora ask for.
    """
    home = context.run.arm(part.arm, part.round)
    write_table(pairs, str(home / "training_pairs.parquet"))
    inputs = digest(
        file_digest(home / "training_pairs.parquet"),
        file_digest(context.run.corpus / VOCABULARY_FILE),
        vars(part),
        config.encoder.model_dump(),
        config.training.model_dump(),
        config.objective.model_dump(),
        config.pairs.sampling_temperature,
        config.seed,
        None if reference is None else reference.identity,
        None if previous is None else trained_from(previous.parent),
    )
    start_slice(home, inputs)
    return run_stage(
        context.screen,
        context.manifest,
        f"{part.arm}: round {part.round}",
        f"{escape(title)} on {pairs.num_rows:,} pairs",
        inputs,
        [home / "model"],
        lambda advance: train_slice(context, part, pairs, config.objective, reference, previous, advance),
        part.stop - part.start,
        "steps",
    )
