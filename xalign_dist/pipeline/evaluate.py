"""Stage: models and a suite in, metrics.json, comparisons.json, pictures and examples out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from xalign_dist.baselines.ppmi import ppmi_vectors
from xalign_dist.baselines.static import StaticEmbedder, rank_weights
from xalign_dist.config import EncoderConfig, RunConfig
from xalign_dist.corpora.tables import read_table, write_table
from xalign_dist.encoder import load_encoder
from xalign_dist.evaluation.compare import compare
from xalign_dist.evaluation.embedding import CachedEmbedder
from xalign_dist.evaluation.examples import contrast_examples
from xalign_dist.evaluation.items import items_table
from xalign_dist.evaluation.languages import language_lookup
from xalign_dist.evaluation.metrics import write_metrics
from xalign_dist.evaluation.miner import system_miner
from xalign_dist.evaluation.projection import project
from xalign_dist.evaluation.retrieval import retrieval
from xalign_dist.evaluation.run import EvaluationResult, evaluate
from xalign_dist.evaluation.suite import Suite, load_suite, parse_suite
from xalign_dist.evaluation.tables import PairSet, load_pairs
from xalign_dist.evaluation.tasks import TASKS
from xalign_dist.evaluation.token_states import encoder_word_states
from xalign_dist.pipeline.console import Advance, run_stage
from xalign_dist.pipeline.context import RunContext
from xalign_dist.pipeline.corpus import Corpus
from xalign_dist.pipeline.manifest import digest, file_digest
from xalign_dist.pipeline.rundir import publish_model, write_json
from xalign_dist.pipeline.score import PAIRS_FILE
from xalign_dist.pipeline.truth import Truth, audit_metrics, mining_metrics
from xalign_dist.records import ENGLISH, EmbedFn, Metric, text_keys
from xalign_dist.runtime.embed_pool import embed_pool
from xalign_dist.runtime.resources import Resources
from xalign_dist.scoring import read_audit

ADAPTIVE, INFONCE, INITIAL, STATIC, PPMI = "adaptive", "infonce", "initial", "static", "ppmi"


def retrieval_accuracy(embed: EmbedFn, pairs: pa.Table) -> float:
    """Mean over language pairs of both directions' accuracy on ``pairs``; 0.0 without pairs."""
    scores = []
    for lang in sorted(set(pairs["tgt_lang"].to_pylist())):
        own = pairs.filter(pa.compute.equal(pairs["tgt_lang"], lang))
        src, tgt = own["src"].to_pylist(), own["tgt"].to_pylist()
        both = retrieval(embed(src), embed(tgt), src_keys=text_keys(src), tgt_keys=text_keys(tgt))
        scores.append(np.mean([d.accuracy for d in both]))
    return float(np.mean(scores)) if scores else 0.0


def evaluate_run(context: RunContext, corpus: Corpus, truth: Truth | None) -> None:
    """Measure every arm of the run on its suite, and the system's own estimates against ``truth``."""
    config, run = context.config, context.run
    final = run.arm(ADAPTIVE, config.rounds.count) / "model"
    suite = run_suite(config, corpus, run.root)
    inputs = digest(
        *suite_inputs(suite, config),
        {k: v for k, v in context.manifest.stages.items() if k.startswith((ADAPTIVE, INFONCE))},
        truth is not None,
    )
    outputs = [run.metrics, run.root / "comparisons.json", run.model]

    def work(advance: Advance) -> dict[str, Any]:
        models = {
            INITIAL: config.encoder.model,
            INFONCE: str(run.arm(INFONCE, 1) / "model"),
            ADAPTIVE: str(final),
        }
        wanted = {ADAPTIVE, *config.evaluation.baselines}
        models = {n: m for n, m in models.items() if n in wanted and (n != INFONCE or Path(m).exists())}
        states = None
        encoders = {
            name: config.encoder if name == INITIAL else EncoderConfig(model=model)
            for name, model in models.items()
        }
        if _asks_for_words(suite):
            states = {name: encoder_word_states(load_encoder(e.model, e)) for name, e in encoders.items()}
        with _embedders(context, encoders, corpus, suite, advance) as embedders:
            settings, miner = config.evaluation, system_miner(config.mining, config.seed)
            result = evaluate(embedders, suite, settings, config.seed, config.rounds.count, states, miner)
            _write_pictures(context, suite, embedders)
        known = [] if truth is None else _known_truth(context, truth)
        write_metrics([*result.metrics, *known], str(run.metrics))
        write_table(items_table(result), str(run.root / "items.parquet"))
        _write_comparisons(result, [n for n in embedders if n != ADAPTIVE], config, run.root)
        publish_model(final, run.model)
        return {"metrics": len(result.metrics) + len(known), "notes": result.notes}

    run_stage(context.screen, context.manifest, "evaluate", "evaluate", inputs, outputs, work, unit="texts")


def suite_inputs(suite: Suite, config: RunConfig) -> list[Any]:
    """What an evaluation on ``suite`` depends on beside the model: settings, and the files' content."""
    files = [t.path for task in suite.tasks for t in task.data.values()]
    digests = [file_digest(Path(p)) if Path(p).exists() else p for p in files]
    return [suite.model_dump(), digests, config.evaluation.model_dump()]


def evaluate_models(
    encoders: Mapping[str, EncoderConfig],
    suite: Suite,
    config: RunConfig,
    resources: Resources,
    seed: int,
    round_: int,
) -> EvaluationResult:
    """``encoders``, by the names that they have in the result, on ``suite``. ``round_`` goes into each row.

    One after the other: each is loaded by every embedding actor, so that ten at once would need ten times
    the memory.
    """
    words = _asks_for_words(suite)
    miner, results = system_miner(config.mining, seed), []
    for name, encoder in encoders.items():
        states = {name: encoder_word_states(load_encoder(encoder.model, encoder))} if words else None
        with embed_pool(encoder.model, encoder, config.runtime, resources) as embed:
            found = evaluate({name: embed}, suite, config.evaluation, seed, round_, states, miner)
        results.append(found)
    return EvaluationResult.merged(results)


def _asks_for_words(suite: Suite) -> bool:
    return any(task.needs_words for task in suite.tasks)


def check_suite(config: RunConfig) -> None:
    """Read the configured suite and every table that it names: a fault shows before hours of training.

    Raises:
        ConfigError: a fault in the suite.
        DataError: a missing file, column or language.
    """
    if config.evaluation.suite is not None:
        for task in load_suite(config.evaluation.suite).tasks:
            TASKS[task.task].load(task)


def run_suite(config: RunConfig, corpus: Corpus, root: Path) -> Suite:
    """The configured suite, else retrieval on the pairs that the run held out."""
    if config.evaluation.suite is not None:
        return load_suite(config.evaluation.suite)
    test = corpus.test if corpus.test is not None else corpus.dev
    path = root / "corpus" / "test_pairs.parquet"
    write_table(test, str(path))
    tasks = [{"task": name, "data": str(path)} for name in ("retrieval", "pooled_retrieval", "similarity")]
    return parse_suite({"tasks": tasks, **resource_groups(corpus, test)}, origin="held-out pairs")


def resource_groups(corpus: Corpus, test: pa.Table) -> dict[str, list[str]]:
    """``high``: languages of ``test`` with parallel text, ``low``: with monolingual sides only.

    Empty unless the test has both: one group alone would repeat ``all``.
    """
    tested = set(test["tgt_lang"].to_pylist()) | set(test["src_lang"].to_pylist())
    high = set(corpus.pairs["src_lang"].to_pylist()) | set(corpus.pairs["tgt_lang"].to_pylist())
    low = {lang for src, tgt, _ in corpus.sides for lang in (src, tgt)} - high
    found = {"high": sorted(tested & high - {ENGLISH}), "low": sorted(tested & low - {ENGLISH})}
    return found if all(found.values()) else {}


@contextlib.contextmanager
def _embedders(
    context: RunContext,
    encoders: Mapping[str, EncoderConfig],
    corpus: Corpus,
    suite: Suite,
    advance: Advance,
) -> Iterator[dict[str, EmbedFn]]:
    with contextlib.ExitStack() as stack:
        found: dict[str, EmbedFn] = {}
        for name, encoder in encoders.items():
            pool = embed_pool(encoder.model, encoder, context.config.runtime, context.resources)
            found[name] = CachedEmbedder(name, _counted(stack.enter_context(pool), advance))
        wanted = context.config.evaluation.baselines if corpus.pairs.num_rows else []
        if STATIC in wanted:
            found[STATIC] = static_baseline(context.config, corpus.pairs, suite)
        if PPMI in wanted:
            texts = corpus.training_texts()
            found[PPMI] = static_baseline(context.config, corpus.pairs, suite, texts)
        yield found


def _counted(embed: EmbedFn, advance: Advance) -> EmbedFn:
    def counted(texts: Any) -> Any:
        vectors = embed(texts)
        advance(len(texts))
        return vectors

    return counted


def static_baseline(
    config: RunConfig, pairs: pa.Table, suite: Suite, learn_from: Sequence[str] | None = None
) -> EmbedFn:
    """Mean word vectors, rotated onto English on the training pairs.

    The vectors are the embedding rows of the initial encoder, or learned by PPMI from the texts
    ``learn_from``, cut into tokens by the same tokenizer.
    """
    encoder = load_encoder(config.encoder.model, config.encoder, torch.device("cpu"))
    matrix = encoder.backbone.get_input_embeddings().weight.detach().numpy()
    if learn_from is not None:
        matrix = ppmi_vectors(encoder.tokenize(learn_from), len(matrix), seed=config.seed)
    static = StaticEmbedder(encoder.tokenize, matrix, rank_weights(len(matrix)))
    by_lang: dict[str, tuple[list[str], list[str]]] = {}
    columns = (pairs[n].to_pylist() for n in ("src_lang", "tgt_lang", "src", "tgt"))
    for src_lang, tgt_lang, src, tgt in zip(*columns, strict=True):
        if src_lang == ENGLISH:
            sides = by_lang.setdefault(tgt_lang, ([], []))
            sides[0].append(src)
            sides[1].append(tgt)
    return static.fit(by_lang).embedder(language_lookup(suite))


def _known_truth(context: RunContext, truth: Truth) -> list[Metric]:
    config, found = context.config, []
    for number in range(1, config.rounds.count + 1):
        home = context.run.round(number)
        if (home / "parallel" / PAIRS_FILE).exists():
            entries = read_audit(home / "parallel" / "audit.json")
            scored = read_table(str(home / "parallel" / PAIRS_FILE))
            found += audit_metrics(scored, entries, truth, number, config.seed)
        if (home / "mined" / PAIRS_FILE).exists():
            mined = read_table(str(home / "mined" / PAIRS_FILE))
            found += mining_metrics(mined, truth, config.mining.min_confidence, number, config.seed)
    return found


def _write_comparisons(result: EvaluationResult, baselines: list[str], config: RunConfig, root: Path) -> None:
    rows = compare(result, ADAPTIVE, baselines, config.evaluation, config.seed)
    write_json(root / "comparisons.json", {"schema": 1, "comparisons": [r.to_json() for r in rows]})


def _write_pictures(context: RunContext, suite: Suite, embedders: Mapping[str, EmbedFn]) -> None:
    task = next((t for t in suite.tasks if t.task in ("pooled_retrieval", "retrieval")), None)
    shown = {n: embedders[n] for n in (INITIAL, INFONCE, ADAPTIVE) if n in embedders}
    points = context.config.evaluation.projection_points
    if task is None or not points or len(shown) < 2:
        return
    sets = load_pairs(task)
    lang, group, text = _sample(sets, points, context.config.seed)
    vectors = {name: embed(text) for name, embed in shown.items()}
    tables = [project(vectors, lang, group, text, m, context.config.seed) for m in ("pca", "tsne")]
    write_table(pa.concat_tables(tables), str(context.run.root / "projection.parquet"))
    baseline = INFONCE if INFONCE in embedders else INITIAL
    examples = contrast_examples(sets, embedders[ADAPTIVE], embedders[baseline], seed=context.config.seed)
    if examples:
        rows = [
            {
                "lang": e.tgt_lang,
                **asdict(e),
                "before": e.got_baseline,
                "after": e.got_ours,
                "baseline": baseline,
            }
            for e in examples
        ]
        write_table(pa.Table.from_pylist(rows), str(context.run.root / "examples.parquet"))


def _sample(sets: list[PairSet], points: int, seed: int) -> tuple[list[str], list[str], list[str]]:
    """The same few messages in every language, so that translations can be joined in the picture."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for pair in sets:
        for src, tgt, group in zip(pair.src, pair.tgt, pair.group, strict=True):
            rows = groups.setdefault(str(group), [(pair.src_lang, src)])
            rows.append((pair.tgt_lang, tgt))
    rng = np.random.default_rng(seed)
    names = sorted(groups, key=lambda g: (-len(groups[g]), g))
    names = names[: max(2, len(names) // 4)]
    lang, group_of, text = [], [], []
    for name in rng.permutation(names):
        for code, sentence in groups[str(name)]:
            lang.append(code)
            group_of.append(str(name))
            text.append(sentence)
        if len(text) >= points:
            break
    return lang, group_of, text
