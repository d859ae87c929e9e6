from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import langcodes
import pyarrow.parquet as pq
import pytest

from xalign_dist.errors import OutputError
from xalign_dist.pipeline import quickstart_data, quickstart_words
from xalign_dist.pipeline.quickstart_catalogs import Message, read_messages, text_group
from xalign_dist.pipeline.quickstart_data import QuickstartData, build_quickstart_data
from xalign_dist.records import PAIR, SENTENCE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> QuickstartData:
    return build_quickstart_data(str(tmp_path_factory.mktemp("quickstart")), seed=0)


def _rows(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def _train_texts(data: QuickstartData) -> set[str]:
    texts = {row[side] for row in _rows(data.parallel) for side in ("src", "tgt")}
    return texts | {row["text"] for piles in data.mono.values() for pile in piles for row in _rows(pile)}


def test_enough_languages_and_text(data: QuickstartData) -> None:
    assert len(data.high) == 6
    assert len(data.low) >= 5
    assert len({*data.high, *data.low, *data.unseen}) >= 14
    assert all(data.counts[f"parallel/{lang}"] > 450 for lang in data.high)
    assert all(data.counts[f"mining_truth/{lang}"] > 100 for lang in data.low)
    assert all(data.counts[f"test_pairs/{lang}"] > 50 for lang in [*data.high, *data.low, *data.unseen])
    assert data.counts["texts/train"] == len(_train_texts(data)) <= 9000
    assert data.counts["texts/test"] <= 4000


def test_codes_are_those_of_the_locales() -> None:
    languages = {**quickstart_data.HIGH, **quickstart_data.LOW, **quickstart_data.UNSEEN}
    for code, locales in languages.items():
        assert {langcodes.get(locale).to_alpha3() for locale in locales} == {code}


def test_schemas(data: QuickstartData) -> None:
    assert pq.read_schema(data.parallel).equals(PAIR)
    assert all(pq.read_schema(p).equals(SENTENCE) for piles in data.mono.values() for p in piles)


def test_no_held_out_text_in_training_nor_a_near_copy(data: QuickstartData) -> None:
    train = {text_group(text) for text in _train_texts(data)}
    test = {text_group(row[side]) for row in _rows(data.test_pairs) for side in ("src", "tgt")}
    dev = {text_group(row[side]) for row in _rows(data.dev_pairs) for side in ("src", "tgt")}
    assert not train & test
    assert not train & dev
    assert not dev & test


def test_held_out_texts_are_distinct_within_a_language(data: QuickstartData) -> None:
    for path in (data.dev_pairs, data.test_pairs):
        rows = _rows(path)
        for column in ("src", "tgt", "group"):
            assert len({(r["tgt_lang"], r[column]) for r in rows}) == len(rows)
        assert len({(r["group"], r["src"]) for r in rows}) == len({r["group"] for r in rows})


def test_unseen_languages_are_only_held_out(data: QuickstartData) -> None:
    assert {r["tgt_lang"] for r in _rows(data.parallel)} == set(data.high)
    assert set(data.mono) == set(data.low)
    assert {r["tgt_lang"] for r in _rows(data.test_pairs)} == {*data.high, *data.low, *data.unseen}


def test_corruption_is_as_documented_and_truth_tells_it(data: QuickstartData) -> None:
    right = {(m.lang, m.src, m.tgt) for m in read_messages(quickstart_data.HIGH)}
    pairs = {(r["src_id"], r["tgt_id"]): r for r in _rows(data.parallel)}
    truth = _rows(data.parallel_truth)
    assert len(pairs) == len(truth)
    for row in truth:
        pair = pairs[row["src_id"], row["tgt_id"]]
        known = (row["lang"], pair["src"], pair["tgt"]) in right
        assert known != row["corrupted"]
        assert (pair["src"] == pair["tgt"]) == (row["kind"] == "untranslated")
        assert row["kind"] in {"", "mismatch", "untranslated"}
    for lang in data.high:
        own = [r["corrupted"] for r in truth if r["lang"] == lang]
        assert sum(own) / len(own) == pytest.approx(0.2, abs=0.003)


def test_piles_hide_exactly_the_true_translations(data: QuickstartData) -> None:
    right = {(m.lang, m.src, m.tgt) for m in read_messages(quickstart_data.LOW)}
    truth = _rows(data.mining_truth)
    for lang, (eng_path, own_path) in data.mono.items():
        english = {r["id"]: r["text"] for r in _rows(eng_path)}
        own = {r["id"]: r["text"] for r in _rows(own_path)}
        hidden = {(english[r["src_id"]], own[r["tgt_id"]]) for r in truth if r["tgt_lang"] == lang}
        assert hidden == {(s, t) for s in english.values() for t in own.values() if (lang, s, t) in right}
        assert len({s for s, _ in hidden}) == len({t for _, t in hidden}) == len(hidden)
        assert 0.65 < len(hidden) / len(english) < 0.86
        assert 0.75 < len(hidden) / len(own) < 0.86


def test_piles_keep_no_message_that_shares_either_side_with_a_kept_one() -> None:
    def message(src: str, tgt: str) -> Message:
        return Message(text_group(src), "est", src, tgt)

    messages = [
        message("log in here", "alpha"),
        message("sign in here", "alpha"),
        message("sign in here", "beta"),
        message("log out now", "gamma"),
        message("log out now", "delta"),
        message("leave it all", "delta"),
    ]
    kept = quickstart_data._one_to_one(messages)
    # "sign in here" may also be "alpha", and "delta" may also be "log out now": neither is kept.
    assert [(m.src, m.tgt) for m in kept] == [("log in here", "alpha"), ("log out now", "gamma")]


def test_ids_are_unique_and_do_not_betray_the_pairing(data: QuickstartData) -> None:
    ids = [row["id"] for piles in data.mono.values() for pile in piles for row in _rows(pile)]
    assert len(set(ids)) == len(ids)
    truth = _rows(data.mining_truth)
    same = [r["src_id"].split("-")[1] == r["tgt_id"].split("-")[1] for r in truth]
    assert sum(same) < 0.05 * len(same)


def test_same_seed_same_bytes_other_seed_other_split(data: QuickstartData, tmp_path: Path) -> None:
    again = build_quickstart_data(str(tmp_path / "again"), seed=0)
    files = sorted(p.name for p in data.root.iterdir())
    assert sorted(p.name for p in again.root.iterdir()) == files
    for name in files:
        ours, theirs = (
            hashlib.sha256((root / name).read_bytes()).digest() for root in (data.root, again.root)
        )
        assert ours == theirs, name
    other = build_quickstart_data(str(tmp_path / "other"), seed=1)
    assert {r["group"] for r in _rows(other.test_pairs)} != {r["group"] for r in _rows(data.test_pairs)}


def test_lexicon_is_short_and_translated(data: QuickstartData) -> None:
    rows = _rows(data.lexicon)
    assert {r["tgt_lang"] for r in rows} == {*data.high, *data.low, *data.unseen}
    assert all(len(r["tgt"].split()) <= quickstart_words.MAX_WORDS for r in rows)
    assert all(text_group(r["src"]) != text_group(r["tgt"]) for r in rows)
    assert len({(r["tgt_lang"], r["src"]) for r in rows}) == len(rows)
    german = quickstart_words.read_words({"deu": ("de",)}, per_language=10_000, seed=0)
    assert ("deu", "Poland", "Polen") in german


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    with pytest.raises(OutputError, match="choose a folder"):
        build_quickstart_data(str(tmp_path / "file"), seed=0)
