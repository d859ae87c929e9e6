"""Words in contexts: which sentences count for which word, and what a lexicon makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xalign_dist.config.method import EvaluationConfig
from xalign_dist.errors import ConfigError, ModelError
from xalign_dist.evaluation.run import evaluate
from xalign_dist.evaluation.suite import parse_suite
from xalign_dist.evaluation.word_contexts import bare, word_vectors

CFG = EvaluationConfig(bootstrap=100, permutations=100)


def recorded(sentences):
    """States that say where a word stood: (number of words, place, 1)."""
    return [
        np.array([[len(words), place, 1] for place in range(len(words))], np.float32) for words in sentences
    ]


def test_a_word_is_the_mean_over_its_first_sentences() -> None:
    sentences = ["A cat sat.", "No dog here", "The old Cat, again", "cat cat", "a dog and a cat", "cat"]
    rows, met = word_vectors(["cat", "dog", "bird"], "eng", sentences, recorded, most=3)
    # cat: place 1 of 3, place 2 of 4, place 0 of 2 (the first place of a sentence that has it twice).
    assert rows[0].tolist() == pytest.approx([3, 1, 1])
    assert rows[1].tolist() == pytest.approx([(3 + 5) / 2, 1, 1])
    assert rows[2].tolist() == [1, 0, 1]  # in no sentence: alone
    assert met.tolist() == [True, True, False]


def test_words_that_differ_in_case_only_share_contexts_and_repeats_count_once() -> None:
    rows, met = word_vectors(["Polish", "polish"], "eng", ["the polish", "the polish"], recorded, most=5)
    assert rows.tolist() == [[2, 1, 1], [2, 1, 1]]
    assert met.all()


def test_without_spaces_a_word_is_a_part_of_the_sentence() -> None:
    seen: list[list[str]] = []

    def states(sentences):
        seen.extend(sentences)
        return recorded(sentences)

    rows, met = word_vectors(
        ["北京", "上海", "东京"], "zho", ["我在北京住", "上海", "北京上海"], states, most=2
    )
    assert ["我在", "北京", "住"] in seen
    assert met.tolist() == [True, True, False]
    assert rows[0].tolist() == pytest.approx([(3 + 2) / 2, (1 + 0) / 2, 1])


def test_bare_words() -> None:
    assert [bare(w) for w in ("«Straße»,", "don't", "...", "C++")] == ["strasse", "don't", "...", "c"]


def test_states_of_another_length_are_refused() -> None:
    with pytest.raises(ModelError, match="one state per word"):
        word_vectors(["a"], "eng", ["a b"], lambda s: [np.ones((1, 2), np.float32) for _ in s], most=1)


def lexicon_suite(tmp_path: Path, **more: object):
    """40 words whose sense only their neighbours in a sentence tell."""
    words = range(40)
    pairs = {
        "src_lang": ["eng"] * 40,
        "tgt_lang": ["deu"] * 40,
        "src": [f"e{i}" for i in words],
        "tgt": [f"d{i}" for i in words],
    }
    sentences = [("eng", f"sense{i} e{i}") for i in words] + [("deu", f"sense{i} d{i}") for i in words]
    pq.write_table(pa.table(pairs), tmp_path / "lexicon.parquet")
    columns = dict(zip(("lang", "text"), map(list, zip(*sentences, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "sentences.parquet")
    data = {"main": str(tmp_path / "lexicon.parquet"), "sentences": str(tmp_path / "sentences.parquet")}
    return parse_suite({"tasks": [{"task": "lexicon", "data": data, **more}]})


def word(text: str) -> np.ndarray:
    return np.random.default_rng([ord(c) for c in text]).normal(size=16).astype(np.float32)


def in_context(sentences):
    """A word's state is its own, pulled towards the words beside it."""
    return [
        np.stack([word(w) + 4 * sum(word(o) for o in words if o != w) for w in words]) for words in sentences
    ]


def test_what_contexts_tell_is_found(tmp_path: Path) -> None:
    suite = lexicon_suite(tmp_path, contexts=3)
    alone = {"m": lambda texts: np.stack([word(t) for t in texts])}
    result = evaluate(alone, suite, CFG, seed=0, token_states={"m": in_context})
    found = {(m.metric, m.src_lang): m.value for m in result.metrics}
    assert found["p@1", "eng"] > 0.95
    assert found["p@1", "deu"] > 0.95
    assert found["covered", "eng"] == 1.0
    bare_suite = parse_suite({"tasks": [{"task": "lexicon", "data": str(tmp_path / "lexicon.parquet")}]})
    without = evaluate(alone, bare_suite, CFG, seed=0)
    assert {m.metric for m in without.metrics} == {"p@1", "p@5", "mrr"}
    assert next(m.value for m in without.metrics if m.metric == "p@1") < 0.2


def test_a_model_without_states_is_left_out_with_a_note(tmp_path: Path) -> None:
    suite = lexicon_suite(tmp_path, contexts=3)
    models = {name: lambda texts: np.stack([word(t) for t in texts]) for name in ("m", "static")}
    result = evaluate(models, suite, CFG, seed=0, token_states={"m": in_context})
    assert {m.model for m in result.metrics} == {"m"}
    assert result.notes == ["lexicon: static gives no states of single words; left out"]
    with pytest.raises(ConfigError, match="no model gives states"):
        evaluate(models, suite, CFG, seed=0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"task": "retrieval", "contexts": 3}, "contexts is a setting of lexicon, not of retrieval"),
        ({"task": "lexicon", "contexts": 3}, "lexicon needs data.main and data.sentences"),
        ({"task": "lexicon", "recall": [5]}, "recall is a setting of clir, not of lexicon"),
        ({"task": "clir", "recall": [0], "data": {"queries": "q", "documents": "d"}}, "0 is no rank"),
        (
            {"task": "clir", "metrics": ["recall@5"], "data": {"queries": "q", "documents": "d"}},
            "clir has no metric recall@5; it has mrr@10, ndcg@10, pooled_mrr@10, pooled_ndcg@10, recall@10",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(more: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        parse_suite({"tasks": [{"data": "x.parquet", **more}]})
