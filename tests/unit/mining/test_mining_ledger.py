"""The ledger: enter, gain, lose, leave with reasons; restart and repeat change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from xalign_dist.config import MiningConfig
from xalign_dist.errors import DataError, OutputError
from xalign_dist.mining import Ledger
from xalign_dist.records import SCORED_PAIR

CONFIG = MiningConfig(ledger_smoothing=0.5, min_confidence=0.5)


def candidates(
    round_: int, pairs: dict[tuple[str, str], float], langs: tuple[str, str] = ("gle", "eng")
) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            "src_id": s, "tgt_id": t, "src_lang": langs[0], "tgt_lang": langs[1], "src": f"text {s}",
            "tgt": f"text {t}", "source": "mined", "cosine": 0.9, "margin": 1.1, "confidence": c,
            "origin": "mined", "round": round_, "stable_rounds": 0,
        }
        for (s, t), c in pairs.items()
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, SCORED_PAIR)


ROUNDS = {
    1: {("a", "1"): 0.9, ("b", "2"): 0.7, ("c", "3"): 0.8, ("d", "4"): 0.3},
    2: {("a", "1"): 1.0, ("b", "2"): 0.6, ("c", "9"): 0.9, ("d", "4"): 0.9},
    3: {("a", "1"): 1.0, ("c", "9"): 0.9, ("d", "4"): 0.9},
}


def run(upto: int) -> Ledger:
    ledger = Ledger(CONFIG)
    for number in range(1, upto + 1):
        ledger.update(number, candidates(number, ROUNDS[number]))
    return ledger


def labels(ledger: Ledger) -> dict[tuple[str, str], tuple[float, int]]:
    return {
        (r["src_id"], r["tgt_id"]): (pytest.approx(r["confidence"], abs=1e-6), r["stable_rounds"])
        for r in ledger.labels().to_pylist()
    }


def test_a_life_of_labels() -> None:
    ledger = Ledger(CONFIG)
    first = ledger.update(1, candidates(1, ROUNDS[1]))
    assert first.counts == {"enter": 3, "gain": 0, "lose": 0, "leave": 0, "stay": 0}
    assert labels(ledger) == {("a", "1"): (0.9, 1), ("b", "2"): (0.7, 1), ("c", "3"): (0.8, 1)}
    assert first.pairs.num_rows == 4

    second = ledger.update(2, candidates(2, ROUNDS[2]))
    told = {(e.src_id, e.tgt_id): (e.event, e.reason) for e in second.events}
    assert told["a", "1"][0] == "gain"
    assert told["b", "2"] == ("lose", "best in both directions, confidence 0.60")
    assert told["c", "3"] == ("leave", "the source now pairs with 9; reliability not over 0.5")
    assert told["c", "9"][0] == "enter"
    assert told["d", "4"] == ("enter", "best in both directions, confidence 0.90")
    assert labels(ledger) == {
        ("a", "1"): (0.95, 2), ("b", "2"): (0.65, 2), ("c", "9"): (0.9, 1), ("d", "4"): (0.6, 1),
    }  # fmt: skip

    third = ledger.update(3, candidates(3, ROUNDS[3]))
    told = {(e.src_id, e.tgt_id): (e.event, e.reason) for e in third.events}
    assert told["b", "2"] == ("leave", "no longer best in both directions; reliability not over 0.5")
    assert third.counts["leave"] == 1
    assert third.counts["stay"] == 1
    assert labels(ledger)["a", "1"] == (0.975, 3)
    assert [e.round for e in ledger.events()] == sorted(e.round for e in ledger.events())


@pytest.mark.parametrize("last", [1, 2, 3])
def test_the_same_round_twice_counts_once(last: int) -> None:
    once, twice = run(last), run(last)
    report = twice.update(last, candidates(last, ROUNDS[last]))
    assert twice.labels().equals(once.labels())
    assert twice.events() == once.events()
    assert {e.round for e in report.events} == {last}


def test_a_repeated_round_forgets_its_first_try() -> None:
    ledger = run(1)
    ledger.update(2, candidates(2, {("z", "7"): 0.99}))
    ledger.update(2, candidates(2, ROUNDS[2]))
    assert ledger.labels().equals(run(2).labels())
    assert ledger.events() == run(2).events()


@pytest.mark.parametrize("last", [1, 2])
def test_a_restart_goes_on_where_it_left(last: int, tmp_path: Path) -> None:
    run(last).save(tmp_path / "ledger")
    restarted = Ledger.load(tmp_path / "ledger")
    assert restarted.labels().equals(run(last).labels())
    restarted.update(last, candidates(last, ROUNDS[last]))
    restarted.update(last + 1, candidates(last + 1, ROUNDS[last + 1]))
    assert restarted.labels().equals(run(last + 1).labels())
    assert restarted.events() == run(last + 1).events()
    assert sorted(p.name for p in (tmp_path / "ledger").iterdir()) == ["events.json", "ledger.parquet"]


def test_language_pairs_have_rounds_of_their_own() -> None:
    ledger = run(2)
    ledger.update(2, candidates(2, {("x", "1"): 0.8}, ("cym", "eng")))
    assert labels(ledger)["a", "1"] == (0.95, 2)
    assert labels(ledger)["x", "1"] == (0.8, 1)
    report = ledger.update(3, candidates(3, {}), langs=[("cym", "eng")])
    assert report.counts["leave"] == 1
    assert labels(ledger)["a", "1"] == (0.95, 2)
    assert ("x", "1") not in labels(ledger)


def test_two_labels_never_share_a_sentence() -> None:
    ledger = Ledger(MiningConfig(ledger_smoothing=0.9, min_confidence=0.5))
    ledger.update(1, candidates(1, {("a", "1"): 0.95}))
    report = ledger.update(2, candidates(2, {("a", "2"): 0.99}))
    assert labels(ledger) == {("a", "2"): (0.99, 1)}
    (left,) = [e for e in report.events if e.event == "leave"]
    assert left.reason == "the source now pairs with 2; another pair of its sentences is more reliable"
    put_out = {r["tgt_id"]: r["confidence"] for r in report.pairs.to_pylist()}
    assert put_out["1"] <= 0.5 < put_out["2"]


def test_an_earlier_round_is_refused() -> None:
    with pytest.raises(DataError, match="at round 2, asked to take in round 1"):
        run(2).update(1, candidates(1, ROUNDS[1]))


def test_faults_on_disk_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no ledger\.parquet"):
        Ledger.load(tmp_path)
    run(1).save(tmp_path)
    (tmp_path / "ledger.parquet").write_bytes(b"torn")
    with pytest.raises(DataError, match="damaged ledger"):
        Ledger.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        run(1).save(tmp_path / "file")
