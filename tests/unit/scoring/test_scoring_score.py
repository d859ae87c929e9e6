"""Scoring of tables: groups, pools, duplicates, copies, audit; a toy world with known noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from xalign_dist.config import ScoringConfig
from xalign_dist.errors import DataError
from xalign_dist.records import PAIR, SCORED_PAIR
from xalign_dist.scoring import read_audit, score_embedded, score_groups, score_pairs, write_audit

CONFIG = ScoringConfig()
DIM = 48


class ToyWorld:
    """Texts with vectors: a translation is its source's vector, a little moved."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.vectors: dict[str, np.ndarray] = {}
        self.calls: list[list[str]] = []

    def table(
        self, pairs: int, noise: float, source: str = "toy", lang: str = "deu"
    ) -> tuple[pa.Table, np.ndarray]:
        meaning = self.rng.normal(size=(pairs, DIM)) + 1.0
        moved = meaning + 0.35 * self.rng.normal(size=(pairs, DIM))
        wrong = np.zeros(pairs, np.bool_)
        bad = self.rng.permutation(pairs)[: round(noise * pairs)]
        wrong[bad] = len(bad) > 1
        target = np.arange(pairs)
        target[bad] = np.roll(bad, 1)
        src = [f"{source} source {lang} {chr(97 + i % 26)}" + "x" * (i // 26) for i in range(pairs)]
        tgt = [f"{source} ziel {lang} {chr(97 + i % 26)}" + "x" * (i // 26) for i in target]
        for text, vector in [*zip(src, meaning, strict=True), *zip(tgt, moved[target], strict=True)]:
            self.vectors[text] = vector / np.linalg.norm(vector)
        ids = [f"{source}-{i}" for i in range(pairs)]
        columns = [ids, ids, ["eng"] * pairs, [lang] * pairs, src, tgt, [source] * pairs]
        return pa.table(columns, schema=PAIR), wrong

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        return np.array([self.vectors[t] for t in texts], np.float32).reshape(len(texts), DIM)


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.6])
def test_noise_is_estimated_and_clean_pairs_stay(noise: float) -> None:
    world = ToyWorld(1)
    table, wrong = world.table(600, noise)
    scored, (entry,) = score_pairs(table, world, CONFIG, 0.02, 3, 0)
    assert scored.schema == SCORED_PAIR
    assert scored.select(PAIR.names).equals(table)
    assert abs(entry.noise_estimated - wrong.mean()) < 0.06
    assert entry.noise_low <= entry.noise_estimated <= entry.noise_high
    kept = scored["confidence"].to_numpy() >= np.float32(entry.threshold)
    assert kept.sum() == entry.kept
    assert kept[~wrong].mean() >= 0.97
    assert wrong[kept].mean() <= 0.04
    assert entry.expected_noise_kept <= 0.02
    assert entry.stable
    assert set(scored["round"].to_pylist()) == {3}
    assert set(scored["origin"].to_pylist()) == {"parallel"}


def test_every_text_is_embedded_once() -> None:
    world = ToyWorld(2)
    table, _ = world.table(120, 0.1)
    doubled = pa.concat_tables([table, table])
    score_pairs(doubled, world, CONFIG, 0.02, 1, 0)
    (texts,) = world.calls
    assert len(texts) == len(set(texts)) == 240


def test_the_same_seed_gives_the_same_scores_and_row_order_is_kept() -> None:
    world = ToyWorld(3)
    table, _ = world.table(300, 0.2)
    src, tgt = world(table["src"].to_pylist()), world(table["tgt"].to_pylist())
    first = score_embedded(table, src, tgt, CONFIG, 0.02, 1, 5)
    again = score_embedded(table, src, tgt, CONFIG, 0.02, 1, 5)
    assert first[0].equals(again[0])
    assert first[1] == again[1]


def test_sources_are_judged_apart_and_a_small_one_with_the_language_pair() -> None:
    world = ToyWorld(4)
    clean, _ = world.table(300, 0.0, "clean")
    dirty, dirty_wrong = world.table(300, 0.5, "dirty")
    small, small_wrong = world.table(40, 0.25, "small")
    table = pa.concat_tables([dirty, small, clean])
    src, tgt = world(table["src"].to_pylist()), world(table["tgt"].to_pylist())
    scored = score_groups(table, src, tgt, CONFIG, 0.02, 1, 0)
    by_source = {e.source: e for e in scored.entries}
    assert [e.source for e in scored.entries] == ["clean", "dirty", "small"]
    assert by_source["clean"].noise_estimated < 0.03
    assert abs(by_source["dirty"].noise_estimated - dirty_wrong.mean()) < 0.08
    assert abs(by_source["small"].noise_estimated - small_wrong.mean()) < 0.12
    assert "all sources" in by_source["small"].note
    assert by_source["clean"].note == ""
    kept = scored.pairs["confidence"].to_numpy()[300:340] >= np.float32(by_source["small"].threshold)
    assert kept[~small_wrong].mean() > 0.9
    assert set(scored.calibrations) == {("eng", "deu", s) for s in ("clean", "dirty", "small")}


def test_blocks_keep_the_estimate() -> None:
    world = ToyWorld(5)
    table, wrong = world.table(900, 0.3)
    src, tgt = world(table["src"].to_pylist()), world(table["tgt"].to_pylist())
    whole = score_embedded(table, src, tgt, CONFIG, 0.02, 1, 0)[1][0]
    cut = score_embedded(table, src, tgt, ScoringConfig(block_rows=256), 0.02, 1, 0)[1][0]
    assert abs(whole.noise_estimated - wrong.mean()) < 0.05
    assert abs(cut.noise_estimated - wrong.mean()) < 0.05


@pytest.mark.parametrize("pairs", [1, 2, 12])
def test_a_handful_of_pairs_is_unstable_but_scored(pairs: int) -> None:
    world = ToyWorld(6)
    table, _ = world.table(pairs, 0.0)
    scored, (entry,) = score_pairs(table, world, CONFIG, 0.02, 1, 0)
    assert not entry.stable
    assert "scoring.min_pairs" in entry.note
    assert entry.noise_estimated == CONFIG.prior_noise
    assert entry.kept == scored.num_rows
    assert np.isfinite(scored["confidence"].to_numpy()).all()


def test_copies_are_noise_that_no_cosine_sees() -> None:
    world = ToyWorld(7)
    table, _ = world.table(400, 0.0)
    tgt = table["tgt"].to_pylist()
    tgt[:40] = table["src"].to_pylist()[:40]
    table = table.set_column(5, "tgt", pa.array(tgt))
    scored, (entry,) = score_pairs(table, world, CONFIG, 0.02, 1, 0)
    assert (scored["confidence"].to_numpy()[:40] == 0).all()
    assert scored["cosine"].to_numpy()[:40] == pytest.approx(1, abs=1e-5)
    assert entry.noise_estimated == pytest.approx(0.1, abs=0.02)
    assert entry.kept == 360


def test_empty_table_and_wrong_input() -> None:
    world = ToyWorld(8)
    scored, entries = score_pairs(PAIR.empty_table(), world, CONFIG, 0.02, 1, 0)
    assert scored.num_rows == 0
    assert entries == []
    table, _ = world.table(5, 0.0)
    with pytest.raises(DataError, match="columns tgt, source"):
        score_pairs(table.drop_columns(["tgt", "source"]), world, CONFIG, 0.02, 1, 0)
    with pytest.raises(DataError, match="5 pairs, 3 vectors"):
        score_embedded(
            table, np.ones((3, 4), np.float32) / 2, np.ones((3, 4), np.float32) / 2, CONFIG, 0.02, 1, 0
        )


def test_audit_survives_the_disk(tmp_path: Path) -> None:
    world = ToyWorld(9)
    _, entries = score_pairs(world.table(200, 0.2)[0], world, CONFIG, 0.02, 1, 0)
    path = tmp_path / "deep" / "audit.json"
    write_audit(entries, path)
    assert read_audit(path) == entries
    data = json.loads(path.read_text("utf-8"))
    assert data["schema"] == 1
    fields = (
        "src_lang tgt_lang source pairs kept noise_estimated noise_low noise_high threshold"
        " expected_noise_kept predicted_precision stable note histogram examples"
        " partial"
    )
    assert list(data["entries"][0]) == fields.split()
    rate = data["entries"][0]["partial"]["near misses"]
    assert 0 <= rate["low"] <= rate["estimated"] <= rate["high"] <= 1
    histogram = data["entries"][0]["histogram"]
    assert len(histogram["edges"]) == len(histogram["observed"]) + 1 == len(histogram["null"]) + 1
    assert sum(histogram["observed"]) > 190
    assert histogram["edges"][0] < histogram["threshold"] < histogram["edges"][-1]
    assert [p.name for p in path.parent.iterdir()] == ["audit.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 2, "entries": []}', '{"schema": 1, "entries": [{"a": 1}]}']
)
def test_a_damaged_audit_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "audit.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"audit\.json"):
        read_audit(path)


def test_nothing_but_copies_is_all_noise() -> None:
    world = ToyWorld(10)
    table, _ = world.table(150, 0.0)
    table = table.set_column(5, "tgt", table["src"])
    scored, (entry,) = score_pairs(table, world, CONFIG, 0.02, 1, 0)
    assert (scored["confidence"].to_numpy() == 0).all()
    assert entry.noise_estimated == 1
    assert entry.kept == 0
    assert not entry.stable


def test_examples_are_the_pairs_nearest_to_the_threshold() -> None:
    world = ToyWorld(11)
    scored, (entry,) = score_pairs(world.table(400, 0.3)[0], world, CONFIG, 0.02, 1, 0)
    confidence = scored["confidence"].to_numpy()
    kept = confidence >= np.float32(entry.threshold)
    nearest = np.r_[np.sort(confidence[kept])[:3][::-1], np.sort(confidence[~kept])[::-1][:3]]
    assert [x["confidence"] for x in entry.examples] == pytest.approx(nearest, abs=1e-5)
    rows = {(r["src"], r["tgt"]) for r in scored.to_pylist()}
    assert {(x["src"], x["tgt"]) for x in entry.examples} <= rows
