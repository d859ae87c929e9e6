"""Scoring by streams of parts gives what scoring of the whole table in memory gives."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scoring_world import DIM, chunks, embed, pairs

from xalign_dist.config import ScoringConfig
from xalign_dist.errors import OutputError
from xalign_dist.scoring import stage as stage_module
from xalign_dist.scoring.buckets import VectorBuckets
from xalign_dist.scoring.histogram import Histogram, Seen
from xalign_dist.scoring.score import score_pairs
from xalign_dist.scoring.stage import Staged, stage
from xalign_dist.scoring.stream import Job, LocalPasses, score_stream

# A sample smaller than the groups, and parts that cut through them.
CONFIG = ScoringConfig(block_rows=300, near_misses=100)
TABLE = pa.concat_tables(
    [
        pairs(0, 700, 0.3, "dirty"),
        pairs(700, 60, 0.2, "small"),
        pairs(1000, 500, 0.0, "clean"),
        pairs(0, 250, 0.1, "dirty", "fra"),
        pairs(700, 40, 0.0, "alone", "swh"),
    ]
)
# Two of its groups, without near misses: cheaper to score again and again.
PART = TABLE.slice(600, 300)
CHEAP = CONFIG.model_copy(update={"near_misses": 0})


def staged(folder: Path, table: pa.Table, rows_at_once: int = 97) -> tuple[Staged, VectorBuckets]:
    found = stage(chunks(table, rows_at_once), folder / "staged", CONFIG.block_rows, CONFIG.min_pairs, 0)
    store = VectorBuckets(folder / "vectors", found.buckets)
    for bucket in range(found.buckets):
        texts = [t for some in found.texts(bucket) for t in some]
        store.write(bucket, texts, embed)
    return found, store


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "PART_ROWS", 256)
    monkeypatch.setattr(stage_module, "buckets_for", lambda texts: 5)


def test_streaming_equals_in_memory(small_parts: None, tmp_path: Path) -> None:
    whole, entries = score_pairs(TABLE, embed, CONFIG, 0.02, 2, 0)
    layout, store = staged(tmp_path, TABLE)
    assert (layout.parts, layout.rows) == (-(-TABLE.num_rows // 256), TABLE.num_rows)
    measured: list[int] = []
    job = Job(layout, store, CONFIG, 0.02, 0, tmp_path / "measured")
    found = score_stream(job, LocalPasses(), str(tmp_path / "pairs.parquet"), 2, measured.append)
    assert sum(measured) == TABLE.num_rows
    streamed = pq.read_table(tmp_path / "pairs.parquet")
    plain = [n for n in whole.column_names if n not in ("cosine", "margin", "confidence")]
    assert streamed.select(plain).equals(whole.select(plain))
    for name in ("cosine", "margin", "confidence"):
        np.testing.assert_allclose(streamed[name].to_numpy(), whole[name].to_numpy(), atol=1e-5)
    assert [(e.src_lang, e.tgt_lang, e.source, e.pairs, e.kept, e.stable, e.note) for e in found] == [
        (e.src_lang, e.tgt_lang, e.source, e.pairs, e.kept, e.stable, e.note) for e in entries
    ]
    for name in ("noise_estimated", "noise_low", "noise_high", "threshold", "expected_noise_kept"):
        ours, theirs = ([getattr(e, name) for e in es] for es in (found, entries))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert [[x["src"] for x in e.examples] for e in found] == [
        [x["src"] for x in e.examples] for e in entries
    ]


def test_the_size_of_chunks_and_parts_changes_nothing(small_parts: None, tmp_path: Path, monkeypatch) -> None:
    results = []
    for rows_at_once, part in ((97, 128), (5000, 128), (33, 5000)):
        monkeypatch.setattr(stage_module, "PART_ROWS", part)
        home = tmp_path / f"{rows_at_once}-{part}"
        layout, store = staged(home, PART, rows_at_once)
        job = Job(layout, store, CHEAP, 0.02, 0, home / "measured")
        score_stream(job, LocalPasses(), str(home / "pairs.parquet"), 2)
        results.append(pq.read_table(home / "pairs.parquet")["confidence"].to_numpy())
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_allclose(results[0], results[2], atol=1e-5)


def test_histograms_of_parts_add_up_to_that_of_the_whole() -> None:
    margins = np.random.default_rng(0).normal(1, 0.2, 1000).astype(np.float32)
    parts = [Seen.of(margins[:10], 3), Seen.of(margins[10:700], 0), Seen.of(margins[700:], 4)]
    merged = Seen.merge(reversed(parts))
    np.testing.assert_array_equal(merged.observed.counts, Histogram.of(margins).counts)
    assert merged.wrong == 7


def test_a_killed_pass_measures_only_what_is_missing(small_parts: None, tmp_path: Path) -> None:
    layout, store = staged(tmp_path, PART)
    job = Job(layout, store, CHEAP, 0.02, 0, tmp_path / "measured")
    out = str(tmp_path / "pairs.parquet")
    first = score_stream(job, LocalPasses(), out, 2)
    labels = pq.read_table(out)
    (tmp_path / "measured" / "000001.parquet").unlink()
    others = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "measured").iterdir()}
    again = score_stream(job, LocalPasses(), out, 2)
    assert again == first
    assert pq.read_table(out).equals(labels)
    assert others.items() < {p.name: p.stat().st_mtime_ns for p in (tmp_path / "measured").iterdir()}.items()
    assert stage(iter([]), tmp_path / "staged", 300, 100, 0) == layout, "a finished layout is not read again"


def test_every_text_is_embedded_once(small_parts: None, tmp_path: Path) -> None:
    layout = stage(chunks(TABLE, 97), tmp_path / "staged", CONFIG.block_rows, CONFIG.min_pairs, 0)
    seen: list[str] = []

    def watched(texts):
        seen.extend(texts)
        return embed(texts)

    store = VectorBuckets(tmp_path / "vectors", layout.buckets)
    for bucket in range(layout.buckets):
        store.write(bucket, [t for some in layout.texts(bucket) for t in some], watched)
    texts = TABLE["src"].to_pylist() + TABLE["tgt"].to_pylist()
    assert sorted(seen) == sorted(set(texts))
    assert len(set(texts)) < len(texts)
    np.testing.assert_array_equal(store(texts[:50]), embed(texts[:50]))
    assert store([]).shape[0] == 0
    assert store(texts[:1]).shape == (1, DIM)


@contextlib.contextmanager
def full_disk(limit: int, place: str) -> Iterator[None]:
    """No file may grow over ``limit`` bytes: the system refuses, and the error names ``place``."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OutputError, match=rf"{place}: cannot be written \(File too large\)"):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_and_nothing_is_lost(small_parts: None, tmp_path: Path) -> None:
    def laid_out() -> Staged:
        return stage(chunks(PART, 97), tmp_path / "staged", CONFIG.block_rows, CONFIG.min_pairs, 0)

    with full_disk(1000, r"staged\.new/parts/000000\.parquet"):
        laid_out()
    with full_disk(20_000, r"staged\.new/samples"):
        laid_out()
    layout = laid_out()
    store = VectorBuckets(tmp_path / "vectors", layout.buckets)
    texts = [[t for some in layout.texts(bucket) for t in some] for bucket in range(layout.buckets)]
    for bucket, own in enumerate(texts):
        with full_disk(1000, "vectors"):
            store.write(bucket, own, embed)
        assert not store.done(bucket)
        assert not list((tmp_path / "vectors").glob("*.tmp"))
        store.write(bucket, own, embed)
    job, out = Job(layout, store, CHEAP, 0.02, 0, tmp_path / "measured"), tmp_path / "pairs.parquet"
    with full_disk(1000, r"measured/000000\.parquet"):
        score_stream(job, LocalPasses(), str(out), 2)
    first = score_stream(job, LocalPasses(), str(out), 2)
    labels = pq.read_table(out)
    with full_disk(1000, r"pairs\.parquet"):
        score_stream(job, LocalPasses(), str(out), 2)
    assert pq.read_table(out).equals(labels), "what was there before is still there"
    assert score_stream(job, LocalPasses(), str(out), 2) == first
    whole, _ = score_pairs(PART, embed, CHEAP, 0.02, 2, 0)
    np.testing.assert_allclose(labels["confidence"].to_numpy(), whole["confidence"].to_numpy(), atol=1e-5)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name.startswith(".")]
