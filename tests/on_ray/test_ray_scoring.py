"""Scoring as streams on Ray: same labels as in one process, flat memory, and a killed run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scoring_world import chunks, embed, pairs

from xalign_dist.config import ScoringConfig
from xalign_dist.runtime.scoring import RayPasses
from xalign_dist.scoring.buckets import VectorBuckets
from xalign_dist.scoring.score import score_pairs
from xalign_dist.scoring.stage import stage
from xalign_dist.scoring.stream import Job, score_stream

HELPERS = Path(__file__).parent.parent
CONFIG = ScoringConfig(block_rows=300, near_misses=100)


def test_on_ray_equals_here(ray_session, tmp_path):
    table = pa.concat_tables([pairs(0, 500, 0.3, "dirty"), pairs(500, 60, 0.2, "small")])
    whole, entries = score_pairs(table, embed, CONFIG, 0.02, 2, 0)
    staged = stage(chunks(table, 97), tmp_path / "staged", CONFIG.block_rows, CONFIG.min_pairs, 0)
    store = VectorBuckets(tmp_path / "vectors", staged.buckets)
    for bucket in range(staged.buckets):
        store.write(bucket, [t for some in staged.texts(bucket) for t in some], embed)
    job = Job(staged, store, CONFIG, 0.02, 0, tmp_path / "measured")
    found = score_stream(job, RayPasses(), str(tmp_path / "pairs.parquet"), 2)
    streamed = pq.read_table(tmp_path / "pairs.parquet")
    assert streamed["src"].equals(whole["src"])
    np.testing.assert_allclose(streamed["confidence"].to_numpy(), whole["confidence"].to_numpy(), atol=1e-5)
    assert [(e.source, e.kept) for e in found] == [(e.source, e.kept) for e in entries]


def driver(home: Path, rows: int, temp: Path) -> subprocess.Popen[str]:
    home.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(HELPERS / "scoring_driver.py"), str(home), str(rows), str(temp)],
        env=os.environ | {"PYTHONPATH": str(HELPERS), "RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A private folder with a short name, for the Ray that a test starts itself."""
    with tempfile.TemporaryDirectory(prefix="xt-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_memory_of_the_driver_is_flat(tmp_path: Path, sockets: Path) -> None:
    grown = {}
    for rows in (30_000, 230_000):
        process = driver(tmp_path / str(rows), rows, sockets / str(rows))
        out, _ = process.communicate()
        assert process.returncode == 0
        found = json.loads(out.splitlines()[-1])
        assert found["pairs"] == rows
        grown[rows] = (found["peak"] - found["before"]) / 1024
    # 200,000 pairs more are 300 MiB of vectors and 30 MiB of text.
    assert grown[230_000] < grown[30_000] + 60


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_killed_driver_goes_on_and_labels_the_same(tmp_path: Path, sockets: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = driver(whole, 40_000, sockets / "a")
    process.communicate()
    assert process.returncode == 0
    process = driver(killed, 40_000, sockets / "b")
    while not any(killed.glob("staged/measured-*/*.parquet")) and process.poll() is None:
        time.sleep(0.01)
    # The driver and the Ray that it started: its own session of processes.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "pairs.parquet").exists()
    measured = {p.name: p.stat().st_mtime_ns for p in killed.glob("staged/measured-*/*.parquet")}
    assert measured
    process = driver(killed, 40_000, sockets / "c")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    parts = json.loads(out.splitlines()[-1])["parts"]
    assert measured.items() < parts.items(), "what was measured is not measured again"
    assert pq.read_table(killed / "pairs.parquet").equals(pq.read_table(whole / "pairs.parquet"))
    assert (killed / "audit.json").read_text() == (whole / "audit.json").read_text()
    assert not (killed / "staged").exists()
