"""`xalign mine` on files that grow, are tiny, repeat themselves, or whose driver is killed."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from xalign_dist.config import MiningConfig, RunConfig
from xalign_dist.errors import DataError
from xalign_dist.mining.local import LocalSearch
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.corpus import Sides
from xalign_dist.pipeline.files import mine_files
from xalign_dist.pipeline.mine import mine_pair
from xalign_dist.records import SENTENCE, text_keys
from xalign_dist.runtime.resources import cluster_resources
from xalign_dist.runtime.search import neighbour_search
from xalign_dist.runtime.shards import ShardPool
from xalign_dist.runtime.vector_store import VectorStore

MODEL = "builtin:e5-small?layers=5"
THINGS = ("house", "tree", "river", "letter", "window", "garden", "bird", "road", "table", "song")
DINGE = ("Haus", "Baum", "Fluss", "Brief", "Fenster", "Garten", "Vogel", "Straße", "Tisch", "Lied")
DONE = ("saw", "sold", "painted", "found", "lost", "liked")
GETAN = ("sah", "verkaufte", "malte", "fand", "verlor", "mochte")


def english(rows):
    return [f"{i} people {DONE[i % 6]} the {THINGS[i * 7 % 10]}." for i in range(rows)]


def german(rows):
    return [f"{i} Leute: {GETAN[i % 6]} {DINGE[i * 7 % 10]}." for i in range(rows)]


def mined(folder, left, right, out="out"):
    folder.mkdir(exist_ok=True)
    for name, texts in (("a.txt", left), ("b.txt", right)):
        (folder / name).write_text("".join(t + "\n" for t in texts), "utf-8")
    said = io.StringIO()
    screen = Screen(False, Console(file=said, width=200))
    paths = str(folder / "a.txt"), str(folder / "b.txt")
    counts = mine_files(MODEL, *paths, {}, str(folder / out), RunConfig(), screen, "en", "de")
    return counts, pq.read_table(folder / out / "pairs.parquet"), said.getvalue()


def same(ours, theirs):
    names = ["src", "tgt"]
    assert ours.select(names).equals(theirs.select(names))
    for name in ("cosine", "margin", "confidence"):
        np.testing.assert_allclose(ours[name].to_numpy(), theirs[name].to_numpy(), atol=1e-5)


@pytest.mark.faults
def test_new_sentences_join_an_earlier_run(ray_session, tmp_path):
    grown = tmp_path / "grown"
    mined(grown, english(60), german(60))
    work = grown / "out" / "_work"

    def files(pattern):
        return {f.relative_to(work): f.stat().st_mtime_ns for f in work.rglob(pattern)}

    blocks, lists = files("block-*.parquet"), files("*.npz")
    assert len(lists) == 2
    _, ours, said = mined(grown, english(80), german(70))
    assert blocks.items() < files("block-*.parquet").items(), "vectors of known sentences stay"
    assert lists.items() < files("*.npz").items(), "lists of known sentences stay"
    assert len(files("*.npz")) == 8
    # The same vectors: in bf16 a text's own differ in the fourth digit with the texts it is encoded beside.
    scratch = tmp_path / "scratch"
    shutil.copytree(work / "vectors", scratch / "out" / "_work" / "vectors")
    _, anew, _ = mined(scratch, english(80), german(70))
    same(ours, anew)
    plan = next(line for line in said.splitlines() if "index of" in line)
    assert plan.strip().startswith("flat index of 80 x 384 on 2 shards: ")
    assert plan.rstrip().endswith("s")
    assert said.index("index of") < said.index("done  mine")


def test_one_process_and_shards_find_the_same_pairs(ray_session, tmp_path):
    rng = np.random.default_rng(1)
    meaning = rng.normal(size=(400, 24)) + 0.7
    vectors = np.concatenate([meaning, meaning + 0.35 * rng.normal(size=meaning.shape)])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    columns = [[f"{x}{i}" for i in range(400)] for x in "ab"]
    a, b = (
        pa.table([c, [x] * 400, c, ["t"] * 400], SENTENCE)
        for c, x in zip(columns, ("eng", "deu"), strict=True)
    )
    store = VectorStore(text_keys(columns[0] + columns[1]), vectors, vectors[:, ::-1].copy(), "x", "x")
    kinds, found = [], []
    for settings, alone in ((MiningConfig(), True), (MiningConfig(), False), (MiningConfig(shards=3), True)):
        home = tmp_path / str(len(found))
        with neighbour_search(settings, home, (400, 400), cluster_resources, alone=alone) as search:
            kinds.append(type(search))
            found.append(mine_pair(Sides(a, b), store, None, settings, search, home, round_=1, seed=0).pairs)
    assert kinds == [LocalSearch, ShardPool, ShardPool]
    assert found[0].num_rows > 300
    for other in found[1:]:
        same(found[0], other)
    approximate = MiningConfig(index="hnsw", recall=0.95)
    with neighbour_search(approximate, tmp_path, (400, 400), cluster_resources, alone=True) as search:
        assert isinstance(search, ShardPool)


@pytest.mark.parametrize(("left", "right"), [(1, 1), pytest.param(2, 30, marks=pytest.mark.faults)])
def test_tiny_sides_are_mined_and_called_uncertain(ray_session, tmp_path, left, right):
    counts, pairs, _ = mined(tmp_path, english(left), german(right))
    assert 1 <= pairs.num_rows <= min(left, right)
    assert np.isfinite(pairs["confidence"].to_numpy()).all()
    audit = (tmp_path / "out" / "audit.json").read_text()
    assert '"stable": false' in audit
    assert "too few" in audit
    assert counts["candidates"] == pairs.num_rows


def test_a_side_without_sentences_is_named(ray_session, tmp_path):
    with pytest.raises(DataError, match=r"b\.txt"):
        mined(tmp_path, english(3), [])


@pytest.mark.faults
def test_a_million_copies_of_a_sentence_are_one_sentence(ray_session, tmp_path):
    copies = ["The same sentence, again and again."] * 1_000_000
    counts, pairs, said = mined(tmp_path, [*english(20), *copies], german(20))
    assert "embed  41 texts" in said
    assert counts["candidates"] == pairs.num_rows <= 20
    assert len(set(pairs["src"].to_pylist())) == pairs.num_rows


DRIVER = """
import functools, sys
from xalign_dist.config import RunConfig
from xalign_dist.mining import known
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.files import mine_files
from xalign_dist.runtime import vectors

vectors.BLOCK_TEXTS = 16
known.block_bounds = functools.partial(known.block_bounds, block=20)
folder = sys.argv[1]
files = folder + "/a.txt", folder + "/b.txt"
mine_files(sys.argv[2], *files, {}, folder + "/out", RunConfig(), Screen(False), "en", "de")
"""


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_killed_driver_goes_on_with_the_same_command(ray_session, tmp_path):
    home, script = tmp_path / "killed", tmp_path / "driver.py"
    home.mkdir()
    script.write_text(DRIVER, "utf-8")
    for name, texts in (("a.txt", english(120)), ("b.txt", german(110))):
        (home / name).write_text("".join(t + "\n" for t in texts), "utf-8")

    def start():
        environment = {**os.environ, "RAY_worker_niceness": "0"}
        command = [sys.executable, str(script), str(home), MODEL]
        return subprocess.Popen(command, env=environment, stderr=(home / "stderr").open("ab"))

    def there(pattern):
        return {f: f.stat().st_mtime_ns for f in (home / "out").rglob(pattern)}

    for pattern, least in (("block-*.parquet", 2), ("source-*.npz", 1)):
        driver = start()
        while len(there(pattern)) < least:
            assert driver.poll() is None, (home / "stderr").read_text()[-2000:]
            time.sleep(0.002)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        assert not (home / "out" / "pairs.parquet").exists()
    finished = there("block-*.parquet") | there("*.npz")
    assert start().wait(timeout=300) == 0, (home / "stderr").read_text()[-2000:]
    assert finished.items() < (there("block-*.parquet") | there("*.npz")).items(), "finished work stays"
    assert not there("*.writing")
    # A run that nobody killed, on the same vectors: in bf16 those of other blocks differ in the fourth digit.
    shutil.copytree(home / "out" / "_work" / "vectors", tmp_path / "calm" / "out" / "_work" / "vectors")
    _, calm, _ = mined(tmp_path / "calm", english(120), german(110))
    same(pq.read_table(home / "out" / "pairs.parquet"), calm)
