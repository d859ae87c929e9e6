from __future__ import annotations

import pyarrow as pa
import pytest

from xalign_dist.config import RunConfig
from xalign_dist.corpora.tables import write_table
from xalign_dist.errors import DataError
from xalign_dist.pipeline.corpus import Corpus, open_corpus
from xalign_dist.pipeline.evaluate import resource_groups
from xalign_dist.records import PAIR, SENTENCE


def sentences(folder, **languages):
    rows = [
        {"id": f"{lang}{source}{i}", "lang": lang, "text": f"{lang} text {i}", "source": source}
        for source, lang in languages.items()
        for i in range(3)
    ]
    write_table(pa.Table.from_pylist(rows, schema=SENTENCE), str(folder / "sentences.parquet"))


def config(**groups):
    corpora = [
        {"path": s, "kind": "sentences", "source": s, "mining_group": group} for s, group in groups.items()
    ]
    return RunConfig.model_validate({"corpora": corpora})


def test_each_group_is_mined_within_itself(tmp_path):
    sentences(tmp_path, a="eng", b="gle", c="eng", d="kat")
    found = open_corpus(config(a="one", b="one", c="two", d="two"), tmp_path).sides
    assert set(found) == {("eng", "gle", "one"), ("eng", "kat", "two")}


def test_a_group_of_one_language_is_named(tmp_path):
    sentences(tmp_path, a="eng", b="gle", c="eng")
    with pytest.raises(DataError, match="mining group 'two' holds eng alone"):
        open_corpus(config(a="one", b="one", c="two"), tmp_path)


def test_sentences_of_one_language_without_groups(tmp_path):
    sentences(tmp_path, a="gle")
    with pytest.raises(DataError, match="corpora of kind sentences holds gle alone"):
        open_corpus(config(a=None), tmp_path)


def table(*languages):
    return pa.Table.from_pylist(
        [dict.fromkeys(PAIR.names, "x") | {"src_lang": "eng", "tgt_lang": lang} for lang in languages],
        schema=PAIR,
    )


def test_groups_follow_parallel_text_and_monolingual_sides():
    corpus = Corpus(table("deu"), table(), None, {("eng", "gle", ""): None, ("eng", "deu", ""): None})
    assert resource_groups(corpus, table("deu", "gle", "fra")) == {"high": ["deu"], "low": ["gle"]}


def test_one_group_alone_is_none():
    corpus = Corpus(table("deu"), table(), None, {("eng", "gle", ""): None})
    assert resource_groups(corpus, table("deu")) == {}
