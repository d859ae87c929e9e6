"""Sharded search equals one exact search, and outlives its actors."""

from __future__ import annotations

import os
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import ray

from xalign_dist.errors import DataError, OutputError, ResourceError
from xalign_dist.mining import exact_knn
from xalign_dist.mining.knn import recall_of
from xalign_dist.runtime.shards import shard_pool


def unit(rows, seed, dim=16):
    vectors = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    vectors[rows // 2 :] = vectors[: rows - rows // 2]  # ties, which must break the same way
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_number_of_shards_changes_nothing(ray_session, tmp_path):
    base, query = unit(301, 0), unit(57, 1)
    scores, rows = exact_knn(query, base, 8)
    with shard_pool(tmp_path, 7) as seven, shard_pool(tmp_path, 1) as one:
        for pool in (one, seven):
            found_scores, found_rows = pool(query, base, 8)
            np.testing.assert_array_equal(found_rows, rows)
            np.testing.assert_allclose(found_scores, scores, atol=1e-6)
    assert list(tmp_path.iterdir()) == [], "vectors left on disk"


def test_fewer_rows_than_neighbours_and_than_shards(ray_session, tmp_path):
    base = unit(3, 2)[:3]
    with shard_pool(tmp_path, 4) as pool:
        _, rows = pool(unit(5, 3), base, 6)
        assert rows.shape == (5, 6)
        assert (np.sort(rows, axis=1)[:, :3] == -1).all()
        assert (np.sort(rows, axis=1)[:, 3:] == [0, 1, 2]).all()
        with pytest.raises(DataError, match="empty side"):
            pool(unit(5, 3), np.empty((0, 16), np.float32), 2)


def clustered(rows, seed, dim=32):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(300, dim))
    found = centres[rng.integers(0, 300, rows)] + 0.8 * rng.normal(size=(rows, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_approximate_shards_reach_the_recall_asked_for(ray_session, tmp_path):
    base, query, said = clustered(6000, 1), clustered(300, 2), []
    exact, found = exact_knn(query, base, 8), {}
    with shard_pool(tmp_path, 2, recall=0.98, say=said.append) as pool:
        for pool.kind in ("ivf", "hnsw", "ivfpq"):
            assert pool.plan(6000, 32, 300).kind == pool.kind
            found[pool.kind] = pool(query, base, 8)
            recall = recall_of(found[pool.kind], exact)
            assert recall >= 0.98
            # The sample is all there is.
            assert f"{pool.kind} index: recall@8 {recall:.3f} on 300 queries" in said[-1]
            assert "0.98 asked" in said[-1]
        assert len(said) == 3
    built = {f: f.stat().st_mtime_ns for f in tmp_path.iterdir()}
    assert len(built) == 6
    with shard_pool(tmp_path, 2, recall=0.98) as pool:
        torn = next(f for f in built if "hnsw-2of2" in f.name)
        torn.write_bytes(b"torn")
        for pool.kind in ("hnsw", "ivf"):
            np.testing.assert_array_equal(pool(query, base, 8)[1], found[pool.kind][1])
    left = {f: f.stat().st_mtime_ns for f in tmp_path.iterdir()}
    assert len(left) == 4, "shards that nobody asked for again are swept away"
    assert {f for f in left if left[f] != built[f]} == {torn}, "shards are built once"


def test_other_dimensions_and_vectors_that_are_none_are_refused(ray_session, tmp_path):
    base, zero = unit(20, 1), unit(20, 1)
    zero[7] = 0
    with shard_pool(tmp_path, 2) as pool:
        with pytest.raises(DataError, match="8 dimensions, the other side has 16"):
            pool(unit(5, 2, dim=8), base, 3)
        with pytest.raises(DataError, match="not of unit length"):
            pool(base, zero, 3)
        assert pool(base[:0], base, 3)[1].shape == (0, 3)
        assert pool(base[:1], base[:1], 3)[1].tolist() == [[0, -1, -1]]


def test_a_plan_that_cannot_fit_is_refused_before_anything_is_built(ray_session, tmp_path):
    with (
        shard_pool(tmp_path, 2) as pool,
        pytest.raises(ResourceError, match=r"flat index of 1,000,000,000 vectors x 384 .* there are"),
    ):
        pool.plan(10**9, 384, 10**9)


def test_no_room_for_the_vectors(ray_session, tmp_path):
    base, before = unit(4000, 1), resource.getrlimit(resource.RLIMIT_FSIZE)
    with shard_pool(tmp_path, 2) as pool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(OutputError, match=r"0 MB of vectors cannot be written \(no room\)"):
                pool(base[:5], base, 3)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.iterdir()) == []
        assert pool(base[:5], base, 3)[1].shape == (5, 3)


def pid_of(actor):
    return ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)


@pytest.mark.faults
def test_shards_killed_between_blocks_are_opened_again_from_disk(ray_session, tmp_path):
    base, query = unit(2000, 4), unit(400, 5)
    bounds = [(at, at + 100) for at in range(0, 400, 100)]
    with shard_pool(tmp_path, 2) as pool:
        before, victims = pool(query, base, 4), [pid_of(a) for a in pool.actors]
        blocks = []
        for number, (_, lists) in enumerate(pool.blocks(query, base, 4, bounds)):
            blocks.append(lists)
            if number == 0:
                for victim in victims:
                    kill(victim)
        assert not set(victims) & {pid_of(a) for a in pool.actors}
    np.testing.assert_array_equal(before[1], np.concatenate([b[1] for b in blocks]))
    np.testing.assert_array_equal(before[0], np.concatenate([b[0] for b in blocks]))


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["build", "search"])
def test_a_shard_killed_at_work_is_restarted_and_the_pairs_do_not_change(ray_session, tmp_path, moment):
    base, query = clustered(6000, 1), clustered(4000, 2)
    with shard_pool(tmp_path / "calm", 2, "hnsw", 0.95) as pool:
        calm = pool(query, base, 8)
    with shard_pool(tmp_path / "killed", 2, "hnsw", 0.95) as pool, ThreadPoolExecutor(1) as aside:
        victim = pid_of(pool.actors[1])
        running = aside.submit(pool, query, base, 8)

        def there(pattern):
            return bool(list((tmp_path / "killed").glob(pattern)))

        # The file of the vectors opens the build, that of the shard ends it.
        while not there("*.npy" if moment == "build" else "*-2of2.index"):
            time.sleep(0.005)
        kill(victim)
        assert not (moment == "build" and there("*-2of2.index")), "it was built before the kill"
        assert not running.done(), "it was over before the kill"
        found = running.result(timeout=120)
        assert pid_of(pool.actors[1]) != victim
    np.testing.assert_array_equal(calm[1], found[1])
    np.testing.assert_array_equal(calm[0], found[0])


@pytest.mark.faults
def test_vectors_that_are_gone_or_cut_short_are_named(ray_session, tmp_path):
    base, query = unit(2000, 4), unit(300, 5)
    for damage in (Path.unlink, lambda file: os.truncate(file, 5000)):
        with shard_pool(tmp_path, 2) as pool:
            blocks = pool.blocks(query, base, 4, [(at, at + 50) for at in range(0, 300, 50)])
            next(blocks)
            damage(next(tmp_path.glob("*.npy")))
            kill(pid_of(pool.actors[0]))
            with pytest.raises(DataError, match=r"vectors-\w+\.npy: the vectors of a shard cannot be read"):
                list(blocks)
            np.testing.assert_array_equal(pool(query, base, 4)[1], exact_knn(query, base, 4)[1])
