"""Row filters: what stays, what goes, and why."""

import pytest
from cleaning_rows import pairs, sentences, verdicts

from xalign_dist.cleaning import clean_rows
from xalign_dist.config import CleaningConfig
from xalign_dist.errors import ConfigError
from xalign_dist.records import PAIR, PAIR_REJECT, SENTENCE, SENTENCE_REJECT

FORM = ["empty", "length", "ratio", "identical"]


def reasons(*rows: tuple[str, str], **settings) -> dict[str, str]:
    """Id -> reason of the pairs that the filters of form refuse."""
    return verdicts(clean_rows(pairs(*rows), CleaningConfig(**{"filters": FORM} | settings)).rejects)


def test_every_filter_of_form_says_its_reason() -> None:
    rows = [
        ("Good morning", "Guten Morgen"),
        ("...", "Guten Morgen"),
        ("Good morning", " \u00a0 "),
        ("A", "Ein langer Artikel"),
        ("word " * 500, "Wort " * 500),
        ("One", "Ein sehr langer Satz, der mit der kurzen Seite nichts zu tun haben kann, ganz sicher nicht"),
        ("Save %(name)s", "save %(NAME)s!"),
    ]
    assert reasons(*rows) == {
        "s1": "empty", "s2": "empty", "s3": "length", "s4": "length", "s5": "ratio", "s6": "identical",
    }  # fmt: skip


def test_limits_are_those_of_the_settings() -> None:
    assert reasons(("abcd", "efghi"), min_chars=4, max_ratio=1.06) == {}
    assert reasons(("abcd", "efghi"), min_chars=5) == {"s0": "length"}
    assert reasons(("abcd", "efghijklmnop"), max_chars=12) == {}
    assert reasons(("abcd", "efghijklmnop"), max_chars=11) == {"s0": "length"}
    # (15 + 25) / (15 + 5) = 2, and the ratio counts bytes: ü has two.
    assert reasons(("abcde", "x" * 25), max_ratio=2.0) == {}
    assert reasons(("abcde", "x" * 24 + "ü"), max_ratio=2.0) == {"s0": "ratio"}


def test_near_but_not_identical_sides_stay() -> None:
    assert reasons(("Hong Kong Dollar", "Hongkong-Dollar"), ("video codec", "Videocodec")) == {}
    assert reasons(("Hindi: कि", "Hindi: का")) == {}


def test_a_row_is_refused_by_the_first_filter_in_the_configured_order() -> None:
    row = ("x" * 3000, "x" * 3000)
    assert reasons(row) == {"s0": "length"}
    assert reasons(row, filters=["identical", "length"]) == {"s0": "identical"}
    assert reasons(row, filters=[]) == {}


def test_filters_judge_and_rejects_hold_the_normalised_text() -> None:
    chunk = clean_rows(pairs(("a  &amp; b", "cafÃ©"), ("&nbsp;", "x y")), CleaningConfig(filters=["empty"]))
    assert chunk.kept.select(["src", "tgt"]).to_pylist() == [{"src": "a & b", "tgt": "café"}]
    assert chunk.rejects.to_pylist()[0]["src"] == ""
    assert chunk.rejects["detail"].to_pylist() == ["src has no letter or digit"]


def test_sentences_pass_the_filters_of_pairs() -> None:
    chunk = clean_rows(sentences("fine text", "...", "x"), CleaningConfig(filters=FORM))
    assert chunk.kept.schema.equals(SENTENCE)
    assert chunk.rejects.schema.equals(SENTENCE_REJECT)
    assert chunk.kept["text"].to_pylist() == ["fine text"]
    assert verdicts(chunk.rejects) == {"x1": "empty", "x2": "length"}


def test_empty_tables_and_columns_in_any_order() -> None:
    chunk = clean_rows(pairs(), CleaningConfig())
    assert chunk.kept.schema.equals(PAIR)
    assert chunk.rejects.schema.equals(PAIR_REJECT)
    table = pairs(("one", "eins")).select(PAIR.names[::-1]).append_column("more", [[1]])
    assert clean_rows(table, CleaningConfig(filters=[])).kept.schema.equals(PAIR)


def test_unknown_filter_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no filter 'lenght'\n  remedy: did you mean length\?"):
        clean_rows(pairs(("a", "b")), CleaningConfig(filters=["empty", "lenght"]))
    with pytest.raises(ConfigError, match="use some of empty, length"):
        clean_rows(pairs(), CleaningConfig(filters=["zzz"]))
