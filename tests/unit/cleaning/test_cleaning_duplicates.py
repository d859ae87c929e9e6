"""Copies: found over the whole stream, the first one stays."""

import random

import pytest
from cleaning_rows import pairs, sentences, verdicts

from xalign_dist.cleaning import Deduplicator
from xalign_dist.config import CleaningConfig
from xalign_dist.records import PAIR, PAIR_REJECT, SENTENCE, SENTENCE_REJECT

EXACT = CleaningConfig(filters=["exact_duplicate"])
NEAR = CleaningConfig(filters=["near_duplicate"])
BOTH = CleaningConfig()


def prose(seed: int, words: int = 60) -> str:
    """Words of random letters, so that only what is made alike is alike."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(words))


def jaccard(a: str, b: str) -> float:
    """Exact similarity of character 5-grams, the slow twin of MinHash."""
    x, y = ({t[i : i + 5] for i in range(len(t) - 4)} for t in (a, b))
    return len(x & y) / len(x | y)


def test_exact_copies_name_the_row_that_stays() -> None:
    table = pairs(("one", "eins"), ("One", "ＥＩＮＳ"), ("one", "ein"), ("one", "eins"))
    chunk = Deduplicator(EXACT).apply(table)
    assert chunk.kept["src_id"].to_pylist() == ["s0", "s2"]
    assert verdicts(chunk.rejects) == {"s1": "exact_duplicate", "s3": "exact_duplicate"}
    assert chunk.rejects["detail"].to_pylist() == ["copy of s0", "copy of s0"]
    assert chunk.kept.schema.equals(PAIR)
    assert chunk.rejects.schema.equals(PAIR_REJECT)


def test_sides_do_not_run_into_each_other_and_languages_count() -> None:
    assert Deduplicator(EXACT).apply(pairs(("ab", "c"), ("a", "bc"))).rejects.num_rows == 0
    dedup = Deduplicator(BOTH)
    text = prose(0)
    for lang in ("eng", "deu"):
        assert dedup.apply(sentences(text, lang=lang)).kept.num_rows == 1
    assert dedup.apply(sentences(text, lang="deu")).kept.num_rows == 0


def test_copies_are_found_across_chunks() -> None:
    dedup = Deduplicator(BOTH)
    text = prose(1)
    assert dedup.apply(sentences("short", text)).rejects.num_rows == 0
    chunk = dedup.apply(sentences(text + " x", "short", "new"))
    assert chunk.kept["text"].to_pylist() == ["new"]
    assert verdicts(chunk.rejects) == {"x1": "exact_duplicate", "x0": "near_duplicate"}
    assert chunk.kept.schema.equals(SENTENCE)
    assert chunk.rejects.schema.equals(SENTENCE_REJECT)


def test_near_copies_are_those_that_the_slow_twin_finds() -> None:
    rng = random.Random(0)
    expected, rows = {}, []
    for i in range(60):
        text = prose(100 + i)
        words = text.split()
        for place in rng.sample(range(60), i % 3):  # 0, 1 or 2 of 60 words differ
            words[place] = "changed"
        rows += [text, " ".join(words)]
        expected[i] = jaccard(*rows[-2:])
    chunk = Deduplicator(NEAR.model_copy(update={"minhash_permutations": 256})).apply(sentences(*rows))
    found = {int(id_[1:]) // 2 for id_ in verdicts(chunk.rejects)}
    # MinHash estimates with a standard deviation under 0.02 here.
    assert {i for i, j in expected.items() if j >= 0.95} <= found
    assert found <= {i for i, j in expected.items() if j >= 0.85}
    assert 20 <= len(found) <= 60
    assert len({id_ for id_ in verdicts(chunk.rejects) if int(id_[1:]) % 2 == 0}) == 0


@pytest.mark.parametrize(("changed", "least", "most"), [(2, 75, 100), (9, 0, 2)])
def test_near_copies_at_the_default_settings(changed: int, least: int, most: int) -> None:
    rows = [prose(200 + i) for i in range(100)]
    changes = [
        " ".join([*r.split()[:-changed], *prose(900 + i, changed).split()]) for i, r in enumerate(rows)
    ]
    similar = [jaccard(a, b) for a, b in zip(rows, changes, strict=True)]
    assert min(similar) > 0.93 if changed == 2 else 0.7 < min(similar) <= max(similar) < 0.78
    dedup = Deduplicator(BOTH)
    assert dedup.apply(sentences(*rows)).rejects.num_rows == 0
    assert least <= dedup.apply(sentences(*changes)).rejects.num_rows <= most


@pytest.mark.parametrize(("threshold", "kept"), [(0.9, 2), (0.4, 1)])
def test_threshold_of_near_copies(threshold: float, kept: int) -> None:
    a = prose(5)
    b = " ".join([*a.split()[:42], *prose(6, 18).split()])
    assert 0.5 < jaccard(a, b) < 0.6
    cfg = NEAR.model_copy(update={"near_duplicate_jaccard": threshold})
    assert Deduplicator(cfg).apply(sentences(a, b)).kept.num_rows == kept


def test_pairs_are_near_copies_only_when_both_sides_are() -> None:
    same, other = prose(7), prose(8)
    chunk = Deduplicator(BOTH).apply(pairs((same, prose(9)), (same + " x", other), (same + " y", other)))
    assert verdicts(chunk.rejects) == {"s2": "near_duplicate"}
    assert chunk.rejects["detail"].to_pylist() == ["copy of s1"]


def test_rows_with_one_id_are_still_told_apart() -> None:
    table = sentences(prose(10), prose(11), prose(11) + " x")
    table = table.set_column(0, "id", [["same"] * 3])
    assert Deduplicator(NEAR).apply(table).kept.num_rows == 2


def test_nothing_configured_keeps_everything_and_empty_tables_pass() -> None:
    rows = sentences("a", "a", "a")
    assert Deduplicator(CleaningConfig(filters=["empty"])).apply(rows).kept.equals(rows)
    chunk = Deduplicator(BOTH).apply(sentences())
    assert chunk.kept.schema.equals(SENTENCE)
    assert chunk.rejects.schema.equals(SENTENCE_REJECT)


def test_order_of_chunks_does_not_matter_to_what_a_text_is_compared_with() -> None:
    rows = [prose(i % 7) for i in range(20)]
    whole = Deduplicator(BOTH).apply(sentences(*rows)).kept["text"].to_pylist()
    dedup = Deduplicator(BOTH)
    parts = [t for r in rows for t in dedup.apply(sentences(r)).kept["text"].to_pylist()]
    assert whole == parts == rows[:7]
