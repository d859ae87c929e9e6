"""The clean corpus of a run, opened: pairs, monolingual sides, and what is held out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from xalign_dist.config import CorpusConfig, RunConfig
from xalign_dist.corpora.tables import read_table
from xalign_dist.errors import DataError
from xalign_dist.mining import distinct
from xalign_dist.pairs.split import split_pairs
from xalign_dist.pipeline.clean import FILES
from xalign_dist.records import ENGLISH, PAIR, SENTENCE


@dataclass(frozen=True)
class Sides:
    """Two monolingual tables (``SENTENCE`` columns) whose texts are distinct within each."""

    source: pa.Table
    target: pa.Table

    @staticmethod
    def of(source: pa.Table, target: pa.Table) -> Sides:
        """Collapse repeated texts to their first row, so that a copy is no neighbour of itself."""
        return Sides(distinct(source), distinct(target))


@dataclass(frozen=True)
class Corpus:
    """Tables of one run. ``dev`` and ``test`` share no text with ``pairs``.

    ``sides``: (language, other language, mining group) -> what is mined against what.
    """

    pairs: pa.Table
    dev: pa.Table
    test: pa.Table | None
    sides: dict[tuple[str, str, str], Sides]

    def training_texts(self) -> list[str]:
        """Every text that training or mining may read, repeated texts included."""
        texts: list[str] = self.pairs["src"].to_pylist() + self.pairs["tgt"].to_pylist()
        for sides in self.sides.values():
            texts += sides.source["text"].to_pylist() + sides.target["text"].to_pylist()
        return texts

    def dev_texts(self) -> list[str]:
        """Texts of the dev pairs."""
        return list(self.dev["src"].to_pylist() + self.dev["tgt"].to_pylist())


def open_corpus(config: RunConfig, folder: Path) -> Corpus:
    """Read what the clean stage wrote to ``folder``; hold out dev and test where none is given.

    Given dev pairs are used as they are; without them the parallel pairs are split so that
    no text is on both sides.

    Raises:
        DataError: a mining group with sentences of one language only.
    """
    pairs = _read(folder / FILES["pairs"], PAIR)
    sentences = _read(folder / FILES["sentences"], SENTENCE)
    dev_path, test = config.evaluation.dev_pairs, None
    if dev_path is None and pairs.num_rows:
        parts = split_pairs(pairs, config.pairs, config.seed)
        pairs, dev, test = parts["train"], parts["dev"], parts["test"]
    elif dev_path is None:
        dev = PAIR.empty_table()
    else:
        dev = read_table(dev_path)
    return Corpus(pairs, dev, test, _sides(sentences, config.corpora))


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    return read_table(str(path)) if path.exists() else schema.empty_table()


def _sides(sentences: pa.Table, corpora: list[CorpusConfig]) -> dict[tuple[str, str, str], Sides]:
    """Per mining group: English, or else its largest language, against every other language."""
    group_of = {c.source: c.mining_group or "" for c in corpora if c.kind == "sentences"}
    rows: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    columns = zip(sentences["source"].to_pylist(), sentences["lang"].to_pylist(), strict=True)
    for row, (source, lang) in enumerate(columns):
        rows[group_of.get(source, "")][lang].append(row)
    found: dict[tuple[str, str, str], Sides] = {}
    for group, by_lang in sorted(rows.items()):
        if len(by_lang) == 1:
            name = f"mining group {group!r}" if group else "the corpora of kind sentences"
            raise DataError(
                f"corpora: {name} holds {next(iter(by_lang))} alone, and mining needs two languages",
                "add a corpus of another language to it, or remove it (pairs alone need no sentences)",
            )
        pivot = ENGLISH if ENGLISH in by_lang else max(sorted(by_lang), key=lambda x: len(by_lang[x]))
        for lang in sorted(set(by_lang) - {pivot}):
            found[pivot, lang, group] = Sides.of(
                sentences.take(pa.array(by_lang[pivot])), sentences.take(pa.array(by_lang[lang]))
            )
    return found
