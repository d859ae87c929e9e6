"""Each stage alone, on plain files: what `xalign score`, `mine`, `encode`, `clean` and `train` do."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute

from xalign_dist.config import CleaningConfig, CorpusConfig, RunConfig, RuntimeConfig
from xalign_dist.corpora.languages import UNDETERMINED
from xalign_dist.corpora.read import read_corpus
from xalign_dist.corpora.tables import read_table, write_table
from xalign_dist.encoder.load import vector_width
from xalign_dist.errors import ConfigError, DataError, OutputError
from xalign_dist.pipeline import clean as clean_stage
from xalign_dist.pipeline import score as score_stage
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.context import SHARED_OUT, show_dashboard
from xalign_dist.pipeline.corpus import Sides
from xalign_dist.pipeline.manifest import digest, place_digest
from xalign_dist.pipeline.mine import announce, mine_pair
from xalign_dist.pipeline.rundir import local_only
from xalign_dist.records import ORIGIN_PARALLEL, SCORED_PAIR
from xalign_dist.runtime.logs import EVENTS_FILE, events
from xalign_dist.runtime.metrics import observe_noise
from xalign_dist.runtime.resources import Resources
from xalign_dist.runtime.scoring import embed_buckets
from xalign_dist.runtime.search import neighbour_search, require_room, stands_alone
from xalign_dist.runtime.session import check_visible, ray_session
from xalign_dist.runtime.vector_store import VectorStore
from xalign_dist.runtime.vectors import EmbedJob, embed_corpus, open_embedded
from xalign_dist.scoring import AuditEntry, read_audit, write_audit
from xalign_dist.scoring.stage import stage

# Files of a stage that are not its result; Parquet readers pass over names with an underscore.
WORK = "_work"


def parse_columns(text: str | None) -> dict[str, str]:
    """``src=english,tgt=german`` as a mapping.

    Raises:
        ConfigError: an item without ``=``.
    """
    columns = {}
    for item in (text or "").split(","):
        if item:
            ours, sep, theirs = item.partition("=")
            if not sep or not ours or not theirs:
                raise ConfigError(f"--columns: {item!r} is not ours=theirs", "e.g. --columns src=english")
            columns[ours.strip()] = theirs.strip()
    return columns


def plain_corpus(path: str, kind: str, columns: dict[str, str], **languages: str | None) -> CorpusConfig:
    """The corpus of one plain file; languages that neither it nor ``languages`` says are ``und``.

    Raises:
        ConfigError: ``kind`` is neither pairs nor sentences.
        DataError: the file's beginning cannot be read.
    """
    if kind not in ("pairs", "sentences"):
        raise ConfigError(f"--kind {kind}: no such kind of corpus", "choose pairs or sentences")
    known = {k: v for k, v in languages.items() if v is not None}
    corpus = CorpusConfig.model_validate({"path": path, "kind": kind, "columns": columns, **known})
    try:
        next(read_corpus(corpus, rows_per_chunk=200))  # enough to learn what is missing
    except DataError as err:
        if "says which language" not in err.problem:
            raise
        return corpus.model_copy(update={"src_lang": UNDETERMINED, "tgt_lang": UNDETERMINED} | known)
    return corpus


def read_records(
    path: str, kind: str, columns: dict[str, str], **languages: str | None
) -> tuple[pa.Table, int]:
    """(records, rejected rows) of any readable corpus; languages not said are ``und``."""
    chunks = list(read_corpus(plain_corpus(path, kind, columns, **languages)))
    return pa.concat_tables([c.kept for c in chunks]), sum(c.rejects.num_rows for c in chunks)


def _one_language(sentences: pa.Table, path: str, option: str) -> str:
    found = sorted(set(sentences["lang"].to_pylist()))
    if len(found) > 1:
        raise DataError(
            f"{path}: holds sentences of {', '.join(found)}; one language is mined against one",
            f"give a file of one language, or say which it is with {option}",
        )
    return str(found[0])


def output_folder(out: str) -> Path:
    """Create ``out``.

    Raises:
        OutputError: not possible.
    """
    folder = Path(local_only(out, "clean, score, mine and encode"))
    try:
        (folder / WORK).mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{out}: cannot be created ({err.strerror})", "choose another --out") from err
    return folder


def _vectors(
    texts: list[str],
    model: str,
    config: RunConfig,
    folder: Path,
    resources: Callable[[], Resources],
    screen: Screen,
    view: int | None,
) -> VectorStore:
    """``resources`` is asked for only where a text has no vector yet, so that it may start Ray."""
    unique = len(set(texts))
    encoder = config.encoder.model_copy(update={"model": model})
    job, home = EmbedJob(model, encoder, config.runtime.embed_batch, view), str(folder / WORK / "vectors")
    with screen.stage("embed", unique, "texts") as advance:
        there = open_embedded(texts, job, home)
        if there is not None:
            advance(unique)
            return there
        return embed_corpus(texts, job, home, config.runtime, resources(), advance)


@contextlib.contextmanager
def _cluster_if_asked(
    runtime: RuntimeConfig, folder: Path, screen: Screen
) -> Iterator[Callable[[], Resources]]:
    """Starts or joins Ray when it is first called: what is done already, or fits here, needs none.

    Raises:
        ResourceError: when called: no Ray, or nodes that do not see ``folder``.
    """
    work = folder / WORK
    with contextlib.ExitStack() as session:
        session.enter_context(events(work / EVENTS_FILE, folder.name))

        def start() -> Resources:
            found = session.enter_context(ray_session(runtime, str(work / "run.log")))
            check_visible(folder, SHARED_OUT)
            show_dashboard(screen)
            return found

        yield functools.cache(start)


def score_file(
    model: str,
    pairs: str,
    columns: dict[str, str],
    out: str,
    config: RunConfig,
    screen: Screen,
    **languages: str | None,
) -> dict[str, Any]:
    """Score the pairs of a file into ``out``/pairs.parquet and ``out``/audit.json.

    The corpus is read once as a stream and laid out under ``out``/_work; vectors stay there.
    """
    corpus = plain_corpus(pairs, "pairs", columns, **languages)
    folder = output_folder(out)
    work = (folder / WORK).absolute()
    name, settings = digest(corpus.model_dump(), place_digest(pairs)), config.scoring
    layout = digest(name, settings.block_rows, settings.min_pairs, config.seed)
    encoder = config.encoder.model_copy(update={"model": model})
    job = EmbedJob(model, encoder, config.runtime.embed_batch)
    with _cluster_if_asked(config.runtime, folder, screen) as cluster:
        resources = cluster()
        with screen.stage("read", None, "pairs") as advance:
            staged = stage(
                read_corpus(corpus),
                work / f"pairs-{layout}",
                settings.block_rows,
                settings.min_pairs,
                config.seed,
                advance=advance,
            )
        with screen.stage("embed", None, "texts") as advance:
            identity = f"{job.fingerprint()}-{name}"
            home = work / "vectors" / identity
            store = embed_buckets(staged, home, job, config.runtime, resources, advance)
        with screen.stage("score", staged.rows, "pairs") as advance:
            target, seed = config.pairs.target_noise, config.seed
            counts = score_stage.score_staged(
                staged, store, identity, settings, target, folder, round_=0, seed=seed, advance=advance
            )
        observe_noise(read_audit(folder / score_stage.AUDIT_FILE))
        return counts


def mine_files(
    model: str,
    source: str,
    target: str,
    columns: dict[str, str],
    out: str,
    config: RunConfig,
    screen: Screen,
    source_lang: str | None = None,
    target_lang: str | None = None,
) -> dict[str, Any]:
    """Mine translations between two files of sentences into ``out``/pairs.parquet and audit.json."""
    left, bad_left = read_records(source, "sentences", columns, src_lang=source_lang)
    right, bad_right = read_records(target, "sentences", columns, src_lang=target_lang)
    said = _one_language(left, source, "--src-lang"), _one_language(right, target, "--tgt-lang")
    if said[0] == said[1] != UNDETERMINED:
        raise DataError(
            f"{source} and {target}: both hold {said[0]}; mining needs two languages",
            "give sentences of another language, or correct --src-lang and --tgt-lang",
        )
    folder = output_folder(out)
    layer = config.mining.view_layer if config.mining.second_view == "layer" else None
    settings, sides, index = config.mining, Sides.of(left, right), folder / WORK / "index"
    alone, rows = stands_alone(config.runtime), (sides.source.num_rows, sides.target.num_rows)
    with _cluster_if_asked(config.runtime, folder, screen) as resources:
        width = vector_width(model, config.encoder.model_copy(update={"model": model}))
        require_room(settings, [rows], width, resources, alone=alone)
        texts = left["text"].to_pylist() + right["text"].to_pylist()
        vectors = _vectors(texts, model, config, folder, resources, screen, layer)
        with screen.stage("mine", right.num_rows, "sentences") as advance:
            with neighbour_search(settings, index, rows, resources, alone=alone, say=screen.say) as search:
                announce(screen, search, [sides], vectors)
                result = mine_pair(
                    sides, vectors, None, settings, search, index / "known", round_=0, seed=config.seed
                )
            advance(right.num_rows)
    write_table(result.pairs, str(folder / score_stage.PAIRS_FILE))
    entry = AuditEntry(**result.audit)
    write_audit([entry], folder / score_stage.AUDIT_FILE)
    confident = pa.compute.greater(result.pairs["confidence"], config.mining.min_confidence)
    return {
        "candidates": result.pairs.num_rows,
        "pairs": int(pa.compute.sum(confident).as_py() or 0),
        "predicted_precision": entry.predicted_precision,
        "rejected": bad_left + bad_right,
    }


def encode_file(
    model: str, source: str, columns: dict[str, str], out: str, config: RunConfig, screen: Screen
) -> dict[str, Any]:
    """Embed a file of sentences into ``out``/embeddings.parquet (id, embedding)."""
    table, rejected = read_records(source, "sentences", columns)
    folder = output_folder(out)
    texts = table["text"].to_pylist()
    with _cluster_if_asked(config.runtime, folder, screen) as resources:
        vectors_ND = _vectors(texts, model, config, folder, resources, screen, None)(texts)
    flat = pa.array(vectors_ND.reshape(-1))
    embedding = pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1])
    write_table(pa.table({"id": table["id"], "embedding": embedding}), str(folder / "embeddings.parquet"))
    return {"texts": table.num_rows, "dimensions": int(vectors_ND.shape[1]), "rejected": rejected}


def clean_files(
    corpora: list[CorpusConfig], cleaning: CleaningConfig, out: str, runtime: RuntimeConfig, screen: Screen
) -> dict[str, Any]:
    """Clean corpora into ``out``: pairs.parquet, sentences.parquet, rejects.parquet, counts.json."""
    if not corpora:
        raise ConfigError("no corpora to clean", "list them under corpora in the config, or give a file")
    folder = output_folder(out)
    with _cluster_if_asked(runtime, folder, screen) as cluster:
        cluster()
        with screen.stage("clean") as advance:
            return clean_stage.clean(corpora, cleaning, folder, advance)


def scored_or_plain(path: str, columns: dict[str, str]) -> pa.Table:
    """Pairs to train on: what `xalign score` or `mine` wrote, or plain pairs with confidence 1."""
    folder = Path(path)
    file = folder / score_stage.PAIRS_FILE if folder.is_dir() else folder
    if file.suffix == ".parquet" and file.exists():
        table = read_table(str(file), columns)
        if set(SCORED_PAIR.names) <= set(table.column_names):
            return table.select(SCORED_PAIR.names)
    table, _ = read_records(path, "pairs", columns)
    n = table.num_rows
    values = {
        "cosine": [None] * n,
        "margin": [None] * n,
        "confidence": [1.0] * n,
        "origin": [ORIGIN_PARALLEL] * n,
        "round": [0] * n,
        "stable_rounds": [0] * n,
    }
    for name, column in values.items():
        table = table.append_column(SCORED_PAIR.field(name), pa.array(column, SCORED_PAIR.field(name).type))
    return table
