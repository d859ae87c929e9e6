"""Splits: no text in two of them, shares as asked, stable when data are added."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from xalign_dist.config import PairsConfig
from xalign_dist.pairs import SPLITS, split_groups, split_pairs

CFG = PairsConfig(test_share=0.2, dev_share=0.1)


def _table(src, tgt):
    return pa.table({"row": range(len(src)), "src": src, "tgt": tgt})


def _where(parts):
    return {row: name for name, part in parts.items() for row in part["row"].to_pylist()}


def test_shares_are_those_of_the_config():
    counts = Counter(split_groups([f"message {n}" for n in range(20_000)], CFG, seed=0))
    assert counts["test"] / 20_000 == pytest.approx(0.2, abs=0.01)
    assert counts["dev"] / 20_000 == pytest.approx(0.1, abs=0.01)


def test_a_groups_split_depends_on_nothing_but_its_key_and_the_seed():
    keys = [("django", n) for n in range(500)]
    alone = [split_groups([key], CFG, seed=1)[0] for key in keys]
    assert split_groups(keys[::-1] * 2, CFG, seed=1) == alone[::-1] * 2
    assert split_groups(keys, CFG, seed=2) != alone


def test_the_same_in_another_process():
    code = (
        "from xalign_dist.config import PairsConfig; from xalign_dist.pairs import split_groups;"
        "print(split_groups([f'm{n}' for n in range(40)], PairsConfig(test_share=.2, dev_share=.1), 7))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(split_groups([f"m{n}" for n in range(40)], CFG, 7))


@pytest.mark.parametrize("seed", range(5))
def test_no_text_is_in_two_splits(seed):
    rng = np.random.default_rng(seed)
    src = [f"s{n}" for n in rng.integers(0, 900, 1000)]
    # Some texts are a source here and a target there.
    tgt = [f"{'s' if n % 10 == 0 else 't'}{n}" for n in rng.integers(0, 1500, 1000)]
    parts = split_pairs(_table(src, tgt), CFG, seed)
    assert sorted(_where(parts)) == list(range(1000))
    texts = [set(part["src"].to_pylist()) | set(part["tgt"].to_pylist()) for part in parts.values()]
    assert sum(map(len, texts)) == len(set().union(*texts))
    assert all(part.num_rows for part in parts.values())


def test_rows_tied_through_others_stay_together():
    src = ["a", "b", "b", "c"]
    tgt = ["x", "x", "y", "y"]
    for seed in range(30):
        assert len(set(_where(split_pairs(_table(src, tgt), CFG, seed)).values())) == 1


def test_shares_of_components_and_order():
    src = [f"s{n // 6}" for n in range(30_000)]
    parts = split_pairs(_table(src, [f"t{n}" for n in range(30_000)]), CFG, 0)
    assert list(parts) == list(SPLITS)
    assert parts["test"].num_rows / 30_000 == pytest.approx(0.2, abs=0.02)
    assert parts["dev"].num_rows / 30_000 == pytest.approx(0.1, abs=0.02)
    assert all(part["row"].to_pylist() == sorted(part["row"].to_pylist()) for part in parts.values())


def test_added_rows_move_no_old_ones():
    old = _table([f"s{n}" for n in range(500)], [f"t{n}" for n in range(500)])
    new = _table([f"n{n}" for n in range(300)], [f"m{n}" for n in range(300)])
    before = _where(split_pairs(old, CFG, 0))
    after = split_pairs(pa.concat_tables([new, old.select(new.column_names)]), CFG, 0)
    assert {
        src: name for name, part in after.items() for src in part["src"].to_pylist() if src.startswith("s")
    } == {f"s{row}": name for row, name in before.items()}


def test_a_large_component_trains():
    src = ["OK"] * 400 + [f"s{n}" for n in range(600)]
    for seed in range(12):
        parts = split_pairs(_table(src, [f"t{n}" for n in range(1000)]), CFG, seed)
        assert parts["train"]["src"].to_pylist().count("OK") == 400


def test_an_empty_table():
    parts = split_pairs(_table([], []), CFG, 0)
    assert [part.num_rows for part in parts.values()] == [0, 0, 0]
