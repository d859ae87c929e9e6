"""Tasks that use the vectors: classification, document retrieval, mining."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xalign_dist.errors import DataError
from xalign_dist.evaluation.classification import ZeroShotClassifier
from xalign_dist.evaluation.clir import rank_documents
from xalign_dist.evaluation.context import TaskContext
from xalign_dist.evaluation.metrics import ALL
from xalign_dist.evaluation.mining import mining_items, mining_scores
from xalign_dist.evaluation.scores import ItemScores, Score
from xalign_dist.evaluation.suite import TaskSpec
from xalign_dist.evaluation.tables import choose_languages, language_of, read_columns
from xalign_dist.records import text_keys

_SPLITS = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test"}


@dataclass(frozen=True, slots=True)
class Labelled:
    """Texts of one language and split, with their classes."""

    text: list[str] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ClassificationData:
    """(language, split) -> texts; ``pivot`` is the language trained on."""

    pivot: str
    parts: dict[tuple[str, str], Labelled]

    @property
    def test_languages(self) -> list[str]:
        """Languages with a test split."""
        return sorted(lang for lang, split in self.parts if split == "test")


def load_classification(task: TaskSpec) -> ClassificationData:
    """Columns lang, split (train, dev or validation, test), text, label[, group].

    Raises:
        DataError: as ``read_columns``; an unknown split; no training rows in the pivot language,
            no test rows, or too few training rows for the shots asked for.
    """
    spec, pivot = task.data["main"], language_of(task.pivot)
    columns = read_columns(spec, ("lang", "split", "text", "label"), ("group",))
    wanted = choose_languages(columns["lang"], task) | {pivot}
    parts: dict[tuple[str, str], Labelled] = {}
    groups = columns.get("group", columns["text"])
    rows = zip(columns["lang"], columns["split"], columns["text"], columns["label"], groups, strict=True)
    for lang, split, text, label, group in rows:
        if split not in _SPLITS:
            raise DataError(f"{spec.path}: split {split!r}", f"use one of {', '.join(_SPLITS)}")
        part = parts.setdefault((lang, _SPLITS[split]), Labelled())
        cut = task.limit is not None and split == "test" and len(part.text) >= task.limit
        if lang in wanted and not cut:
            part.text.append(text)
            part.label.append(label)
            part.group.append(group)
    data = ClassificationData(pivot, {k: v for k, v in parts.items() if v.text})
    if (pivot, "train") not in data.parts or not data.test_languages:
        raise DataError(
            f"{spec.path}: no training rows in {pivot}, or no test rows", "check split, lang and pivot"
        )
    return data


def run_classification(data: ClassificationData, ctx: TaskContext) -> list[Score]:
    """Accuracy on each language's test set, and with ``shots`` examples of it added."""
    train = data.parts[data.pivot, "train"]
    dev = data.parts.get((data.pivot, "dev"))
    model = ZeroShotClassifier(
        ctx.embed(train.text),
        train.label,
        ctx.embed(dev.text) if dev else None,
        dev.label if dev else None,
        seed=ctx.seed,
    )
    out = []
    for lang in data.test_languages:
        test = data.parts[lang, "test"]
        rows, clusters = ctx.embed(test.text), text_keys(test.group)
        hits = ItemScores.mean(model.hits(rows, test.label), clusters)
        out.append(Score.of("accuracy", data.pivot, lang, hits))
        extra = data.parts.get((lang, "train"))
        for shots in ctx.task.shots if lang != data.pivot else ():
            if extra is None:
                raise DataError(f"task {ctx.task.key}: no training rows in {lang} for shots", "remove shots")
            few = model.few_shot(ctx.embed(extra.text), extra.label, shots, ctx.seed)
            items = ItemScores.mean(few.hits(rows, test.label), clusters)
            out.append(Score.of(f"accuracy@{shots}", data.pivot, lang, items))
    return out


@dataclass(frozen=True, slots=True)
class ClirData:
    """Queries and documents by language; ``doc`` ties a query to its document in any language."""

    queries: dict[str, list[tuple[str, str, str]]]
    documents: dict[str, dict[str, str]]


def load_clir(task: TaskSpec) -> ClirData:
    """Queries: lang, text, doc[, group]; documents: lang, doc, text.

    ``group`` names a query across languages (else its text does). A document that occurs on
    several rows is read once. ``limit`` counts queries per language.

    Raises:
        DataError: as ``read_columns``, or a query whose document is in no language.
    """
    q = read_columns(task.data["queries"], ("lang", "text", "doc"), ("group",))
    d = read_columns(task.data["documents"], ("lang", "doc", "text"))
    wanted = choose_languages({*q["lang"], *d["lang"]}, task) | {language_of(task.pivot)}
    documents: dict[str, dict[str, str]] = {}
    for lang, doc, text in zip(d["lang"], d["doc"], d["text"], strict=True):
        if lang in wanted:
            documents.setdefault(lang, {}).setdefault(doc, text)
    known = {doc for docs in documents.values() for doc in docs}
    queries: dict[str, list[tuple[str, str, str]]] = {}
    for lang, text, doc, group in zip(q["lang"], q["text"], q["doc"], q.get("group", q["text"]), strict=True):
        rows = queries.setdefault(lang, []) if lang in wanted else None
        if rows is None or (task.limit is not None and len(rows) >= task.limit):
            continue
        if doc not in known:
            raise DataError(
                f"{task.data['queries'].path}: document {doc!r} of query {text[:40]!r} is not in"
                f" {task.data['documents'].path}",
                "check the columns mapped to doc on both sides",
            )
        rows.append((text, doc, group))
    return ClirData(queries, documents)


def run_clir(data: ClirData, ctx: TaskContext) -> list[Score]:
    """Each (query language, document language) cell, and each query language over all documents."""
    out = []
    pooled = [
        (lang, doc, text) for lang in sorted(data.documents) for doc, text in data.documents[lang].items()
    ]
    for query_lang, queries in sorted(data.queries.items()):
        for doc_lang, documents in sorted(data.documents.items()):
            cell = [(doc, text) for doc, text in documents.items()]
            out += _rank(queries, cell, query_lang, doc_lang, "", ctx)
        out += _rank(queries, [(doc, text) for _, doc, text in pooled], query_lang, ALL, "pooled_", ctx)
    return out


def _rank(
    queries: list[tuple[str, str, str]],
    documents: list[tuple[str, str]],
    query_lang: str,
    doc_lang: str,
    prefix: str,
    ctx: TaskContext,
) -> list[Score]:
    rows: dict[str, list[int]] = {}
    for row, (doc, _) in enumerate(documents):
        rows.setdefault(doc, []).append(row)
    asked = [q for q in queries if q[1] in rows]
    if not asked:
        return []
    scores = rank_documents(
        ctx.embed([q[0] for q in asked]),
        ctx.embed([d[1] for d in documents]),
        [rows[q[1]] for q in asked],
        recall_at=ctx.task.recall,
    )
    clusters = text_keys([q[2] for q in asked])
    columns = {"mrr@10": scores.rr_N, "ndcg@10": scores.ndcg_N}
    columns |= {f"recall@{k}": found_N for k, found_N in scores.recall_at.items()}
    return [
        Score.of(prefix + name, query_lang, doc_lang, ItemScores.mean(values, clusters))
        for name, values in columns.items()
    ]


@dataclass(frozen=True, slots=True)
class MiningData:
    """Two sides of unaligned sentences and the true pairs hidden in them."""

    src_lang: str
    tgt_lang: str
    src: dict[str, str]
    tgt: dict[str, str]
    gold: set[tuple[str, str]]


def load_mining(task: TaskSpec) -> list[MiningData]:
    """Sentences: id, text, and lang, or pair (``de-en``) with side; gold: src_id, tgt_id[, pair].

    With ``pair`` every value is a problem of its own, whose first language is the side of the
    gold's src_id. Without it, each pair of languages that the gold links is a problem.

    Raises:
        DataError: as ``read_columns``; a gold id that no sentence has; a side of both languages.
    """
    s = read_columns(task.data["sentences"], ("id", "text"), ("lang", "pair", "side"))
    g = read_columns(task.data["gold"], ("src_id", "tgt_id"), ("pair",))
    sides = s.get("side" if "pair" in s else "lang")
    if sides is None:
        raise DataError(
            f"{task.data['sentences'].path}: neither lang nor pair and side", "map one of them in columns"
        )
    problem = s.get("pair", [""] * len(sides))
    if ("pair" in s) != ("pair" in g):
        raise DataError(
            f"task {task.key}: pair is in one of sentences and gold only", "map it in both, or neither"
        )
    side_of = {(p, i): side for p, i, side in zip(problem, s["id"], sides, strict=True)}
    texts: dict[tuple[str, str], dict[str, str]] = {}
    for p, i, side, text in zip(problem, s["id"], sides, s["text"], strict=True):
        texts.setdefault((p, side), {})[i] = text
    found: dict[tuple[str, str, str], set[tuple[str, str]]] = {}
    for p, a, b in zip(g.get("pair", [""] * len(g["src_id"])), g["src_id"], g["tgt_id"], strict=True):
        if (p, a) not in side_of or (p, b) not in side_of:
            raise DataError(
                f"{task.data['gold'].path}: pair {a}, {b}: no such sentence", "use ids of the sentences' file"
            )
        found.setdefault((p, side_of[p, a], side_of[p, b]), set()).add((a, b))
    return _problems(found, texts, task)


def _problems(
    found: dict[tuple[str, str, str], set[tuple[str, str]]],
    texts: dict[tuple[str, str], dict[str, str]],
    task: TaskSpec,
) -> list[MiningData]:
    out = []
    for (pair, a, b), gold in sorted(found.items()):
        src_lang, tgt_lang = map(language_of, pair.split("-", 1) if "-" in pair else (a, b))
        out.append(MiningData(src_lang, tgt_lang, texts[pair, a], texts[pair, b], gold))
    wanted = choose_languages({x for m in out for x in (m.src_lang, m.tgt_lang)}, task) | {
        language_of(task.pivot)
    }
    return [m for m in out if {m.src_lang, m.tgt_lang} <= wanted]


def run_mining(problems: list[MiningData], ctx: TaskContext) -> list[Score]:
    """Precision, recall, F1 and the precision that the miner predicts, confidence above 0.5."""
    out = []
    for one in problems:
        src_ids, tgt_ids = list(one.src), list(one.tgt)
        rows, columns, confidence = ctx.mine(
            ctx.embed(list(one.src.values())), ctx.embed(list(one.tgt.values()))
        )
        mined = [(src_ids[i], tgt_ids[j]) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)]
        langs = (one.src_lang, one.tgt_lang)
        for name, items in mining_items(mined, one.gold, confidence, sources=src_ids).items():
            out.append(Score.of(name, *langs, items))
        whole = mining_scores(mined, one.gold, confidence)
        out.append(Score("predicted_precision", *langs, whole.predicted_precision, whole.mined))
    return [s for s in out if np.isfinite(s.value)]
