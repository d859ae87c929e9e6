"""The quickstart's data: real text from PyPI packages, its noise and its hidden truth known.

Sentences are the translated messages of Django, django-allauth and Django REST framework;
words come from CLDR. Nothing is downloaded. What is written, all under one folder:

==========================  =========================================================================
parallel.parquet            PAIR, English with each high-resource language, 20 % corrupted on purpose
parallel_truth.parquet      src_id, tgt_id, lang, corrupted, kind: what was done to which pair
mono_eng__LANG.parquet      SENTENCE, the English pile to mine for LANG
mono_LANG.parquet           SENTENCE, the foreign pile of low-resource LANG
mining_truth.parquet        src_lang, tgt_lang, src_id, tgt_id: the translations between the two piles
dev_pairs, test_pairs       src_lang, tgt_lang, src, tgt, group: held out, for every language
lexicon.parquet             src_lang, tgt_lang, src, tgt: word pairs
==========================  =========================================================================

Corruption of the parallel text: of each language 18 % of the pairs get the translation of
another message (kind ``mismatch``, a permutation, so that no text is repeated) and 2 % the
English text itself (``untranslated``). The catalogs' own dirt stays: placeholders lost or
added, two translations of one message, plural forms.

Piles hold messages of at least three English words, since labels of two have no context to be
matched by (measured with the 12-layer encoder on gle, uig and kir: recall at precision 0.9 is
0.82 with three words, 0.60 with two, and as many pairs are found). Of a low-resource language's
messages 70 % are in both piles, 15 % only in the foreign and 15 % only in the English one;
messages never translated into it fill the English pile's unpaired part up to 30 %. Identifiers
are places in a shuffled pile and betray nothing.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.errors import OutputError
from xalign_dist.pipeline.quickstart_catalogs import Message, count_words, read_messages, text_group
from xalign_dist.pipeline.quickstart_split import families, one_per_family, split_families
from xalign_dist.pipeline.quickstart_words import read_words
from xalign_dist.records import ENGLISH, PAIR, SENTENCE

HIGH: Mapping[str, tuple[str, ...]] = {
    "deu": ("de",),
    "fra": ("fr",),
    "spa": ("es",),
    "rus": ("ru",),
    "zho": ("zh_Hans", "zh_CN"),
    "tur": ("tr",),
}
LOW: Mapping[str, tuple[str, ...]] = {
    "gle": ("ga",),
    "isl": ("is",),
    "uig": ("ug",),
    "mon": ("mn",),
    "kir": ("ky",),
    "est": ("et",),
    "eus": ("eu",),
    "kat": ("ka",),
}
UNSEEN: Mapping[str, tuple[str, ...]] = {"jpn": ("ja",), "kaz": ("kk",), "gla": ("gd",)}

TEST_SHARE, DEV_SHARE = 0.25, 0.10
MISMATCHED, UNTRANSLATED = 0.18, 0.02
PAIRED, FOREIGN_ONLY = 0.70, 0.15
PILE_WORDS = 3
ENGLISH_UNPAIRED_MAX = 0.30
WORDS_PER_LANGUAGE = 200
SOURCE = "gettext"

_PARALLEL_TRUTH = pa.schema(
    [
        ("src_id", pa.string()),
        ("tgt_id", pa.string()),
        ("lang", pa.string()),
        ("corrupted", pa.bool_()),
        ("kind", pa.string()),
    ]
)
_MINING_TRUTH = pa.schema([(n, pa.string()) for n in ("src_lang", "tgt_lang", "src_id", "tgt_id")])
_HELD_OUT = pa.schema([(n, pa.string()) for n in ("src_lang", "tgt_lang", "src", "tgt", "group")])
_LEXICON = pa.schema([(n, pa.string()) for n in ("src_lang", "tgt_lang", "src", "tgt")])

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class QuickstartData:
    """Where the quickstart's data lie, and what is in them.

    Attributes:
        root: the folder.
        parallel: pairs of the high-resource languages, for training.
        parallel_truth: which of them are corrupted.
        mono: low-resource language -> (English pile, its own pile).
        mining_truth: the translations hidden in the piles.
        dev_pairs: held out for choices; only rows of ``high`` may steer training, since the
            low-resource languages are to be learned without any known pair.
        test_pairs: held out for the table at the end.
        lexicon: word pairs.
        high: languages with parallel text.
        low: languages with monolingual text only.
        unseen: languages of the test set without any training text.
        counts: rows per file and language (``parallel/deu``, ``mining_truth/gle`` ...), and
            distinct texts to embed (``texts/train``, ``texts/dev``, ``texts/test``,
            ``texts/lexicon``).
    """

    root: Path
    parallel: Path
    parallel_truth: Path
    mono: dict[str, tuple[Path, Path]]
    mining_truth: Path
    dev_pairs: Path
    test_pairs: Path
    lexicon: Path
    high: list[str]
    low: list[str]
    unseen: list[str]
    counts: dict[str, int]


def build_quickstart_data(out: str, seed: int) -> QuickstartData:
    """Write the quickstart's data under the folder ``out``; the same seed gives the same bytes.

    Raises:
        DependencyError: a package of the ``quickstart`` extra is missing.
        DataError: a catalog is damaged.
        OutputError: ``out`` cannot be written.
    """
    messages = read_messages({**HIGH, **LOW, **UNSEEN})
    family_of = families(messages)
    parts = split_families(messages, family_of, TEST_SHARE, DEV_SHARE, seed)
    train = [m for m in messages if parts[m.group] == "train" and m.lang not in UNSEEN]
    tables: dict[str, tuple[list[Row], pa.Schema]] = {}
    pairs, truth = _parallel([m for m in train if m.lang in HIGH], seed)
    tables["parallel"], tables["parallel_truth"] = (pairs, PAIR), (truth, _PARALLEL_TRUTH)
    hidden: list[Row] = []
    sentences = [m for m in train if count_words(m.src) >= PILE_WORDS]
    for lang in LOW:
        english, foreign, found = _piles(sentences, lang, seed)
        tables[f"mono_eng__{lang}"], tables[f"mono_{lang}"] = (english, SENTENCE), (foreign, SENTENCE)
        hidden += found
    tables["mining_truth"] = (hidden, _MINING_TRUTH)
    for part in ("dev", "test"):
        kept = one_per_family((m for m in messages if parts[m.group] == part), family_of)
        tables[f"{part}_pairs"] = (_held_out(kept), _HELD_OUT)
    words = read_words({**HIGH, **LOW, **UNSEEN}, WORDS_PER_LANGUAGE, seed)
    lexicon = [{"src_lang": ENGLISH, "tgt_lang": lang, "src": s, "tgt": t} for lang, s, t in words]
    tables["lexicon"] = (lexicon, _LEXICON)
    paths = {name: _write(Path(out), name, rows, schema) for name, (rows, schema) in tables.items()}
    return QuickstartData(
        root=Path(out),
        mono={lang: (paths[f"mono_eng__{lang}"], paths[f"mono_{lang}"]) for lang in LOW},
        high=list(HIGH),
        low=list(LOW),
        unseen=list(UNSEEN),
        counts=_counts({name: rows for name, (rows, _) in tables.items()}),
        **{
            name: paths[name]
            for name in ("parallel", "parallel_truth", "mining_truth", "dev_pairs", "test_pairs", "lexicon")
        },
    )


def _parallel(messages: Sequence[Message], seed: int) -> tuple[list[Row], list[Row]]:
    rng = np.random.default_rng([seed, 1])
    english = sorted({m.src for m in messages})
    id_of = dict(zip(english, _ids(ENGLISH, len(english), rng), strict=True))
    pairs: list[Row] = []
    truth: list[Row] = []
    for lang in HIGH:
        own = [m for m in messages if m.lang == lang]
        targets, kinds = _corrupt(own, rng)
        for m, tgt, kind, tgt_id in zip(own, targets, kinds, _ids(lang, len(own), rng), strict=True):
            src_id = id_of[m.src]
            langs = {"src_lang": ENGLISH, "tgt_lang": lang}
            pairs.append(
                {"src_id": src_id, "tgt_id": tgt_id, **langs, "src": m.src, "tgt": tgt, "source": SOURCE}
            )
            ids = {"src_id": src_id, "tgt_id": tgt_id, "lang": lang}
            truth.append({**ids, "corrupted": bool(kind), "kind": kind})
    order = rng.permutation(len(pairs))
    return [pairs[i] for i in order], [truth[i] for i in order]


def _corrupt(messages: Sequence[Message], rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Targets and kinds (empty: untouched) after corruption, in the order of ``messages``."""
    targets = [m.tgt for m in messages]
    kinds = [""] * len(messages)
    order = rng.permutation(len(messages))
    mismatched = round(MISMATCHED * len(messages))
    untranslated = round(UNTRANSLATED * len(messages))
    # A cycle over messages without a text in common: nobody gets a right translation.
    cycle: list[int] = []
    seen: set[str] = set()
    for i in order:
        names = {messages[i].group, text_group(messages[i].tgt)}
        if len(cycle) < mismatched and seen.isdisjoint(names):
            cycle.append(int(i))
            seen |= names
    for i, donor in zip(cycle, cycle[1:] + cycle[:1], strict=True):
        targets[i], kinds[i] = messages[donor].tgt, "mismatch"
    for i in [i for i in order if not kinds[i]][:untranslated]:
        targets[i], kinds[i] = messages[i].src, "untranslated"
    return targets, kinds


def _piles(train: Sequence[Message], lang: str, seed: int) -> tuple[list[Row], list[Row], list[Row]]:
    rng = np.random.default_rng([seed, 2, *lang.encode()])
    kept = _one_to_one([m for m in train if m.lang == lang])
    translated = {m.group for m in train if m.lang == lang}
    order = rng.permutation(len(kept))
    paired = round(PAIRED * len(kept))
    foreign_only = round(FOREIGN_ONLY * len(kept))
    both = [kept[i] for i in order[:paired]]
    foreign = both + [kept[i] for i in order[paired : paired + foreign_only]]
    alone = [kept[i].src for i in order[paired + foreign_only :]]
    others = sorted({m.group: m.src for m in reversed(train) if m.group not in translated}.values())
    room = int(len(both) * ENGLISH_UNPAIRED_MAX / (1 - ENGLISH_UNPAIRED_MAX)) - len(alone)
    alone += [others[i] for i in rng.permutation(len(others))[: max(0, room)]]
    eng_ids = _ids(f"{ENGLISH}.{lang}", len(both) + len(alone), rng)
    own_ids = _ids(lang, len(foreign), rng)
    english = _pile(ENGLISH, eng_ids, [m.src for m in both] + alone)
    found = [
        {"src_lang": ENGLISH, "tgt_lang": lang, "src_id": s, "tgt_id": t}
        for s, t in zip(eng_ids, own_ids[: len(both)], strict=False)
    ]
    return english, _pile(lang, own_ids, [m.tgt for m in foreign]), sorted(found, key=lambda r: r["src_id"])


def _one_to_one(messages: Sequence[Message]) -> list[Message]:
    """Messages of which no English text has two translations, nor the reverse.

    Otherwise a pair that is right, but not the one noted, would count as wrongly mined.
    """
    texts_of: dict[str, set[str]] = defaultdict(set)
    groups_of: dict[str, set[str]] = defaultdict(set)
    for m in messages:
        texts_of[m.group].add(text_group(m.tgt))
        groups_of[text_group(m.tgt)].add(m.group)
    kept: list[Message] = []
    groups: set[str] = set()
    texts: set[str] = set()
    for m in messages:
        if texts.isdisjoint(texts_of[m.group]) and groups.isdisjoint(groups_of[text_group(m.tgt)]):
            kept.append(m)
            groups.add(m.group)
            texts.add(text_group(m.tgt))
    return kept


def _pile(lang: str, ids: Sequence[str], texts: Sequence[str]) -> list[Row]:
    return [
        {"id": i, "lang": lang, "text": text, "source": SOURCE}
        for i, text in sorted(zip(ids, texts, strict=True))
    ]


def _ids(prefix: str, count: int, rng: np.random.Generator) -> list[str]:
    return [f"{prefix}-{place:05d}" for place in rng.permutation(count)]


def _held_out(messages: Sequence[Message]) -> list[Row]:
    return [
        {"src_lang": ENGLISH, "tgt_lang": m.lang, "src": m.src, "tgt": m.tgt, "group": m.group}
        for m in sorted(messages, key=lambda m: (m.lang, m.group))
    ]


def _counts(tables: Mapping[str, Sequence[Row]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    texts: dict[str, set[str]] = {part: set() for part in ("train", "dev", "test", "lexicon")}
    for name, rows in tables.items():
        for row in rows:
            counts[f"{name}/{row.get('tgt_lang', row.get('lang'))}"] += 1
        part = name.removesuffix("_pairs")
        texts[part if part in texts else "train"].update(
            row[side] for row in rows for side in ("src", "tgt", "text") if side in row
        )
    counts.update({f"texts/{part}": len(found) for part, found in texts.items()})
    return dict(sorted(counts.items()))


def _write(folder: Path, name: str, rows: Sequence[Row], schema: pa.Schema) -> Path:
    path = folder / f"{name}.parquet"
    aside = folder / f".{name}.parquet.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), aside, compression="zstd")
        aside.replace(path)
    except OSError as err:
        raise OutputError(f"{path}: cannot be written ({err})", "choose a folder you may write to") from None
    return path
