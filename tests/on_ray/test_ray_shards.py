"""Sharded search equals one exact search, and outlives its actors."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import ray

from xalign_dist.errors import DataError
from xalign_dist.mining import exact_knn
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


def test_killed_shard_is_rebuilt_from_disk(ray_session, tmp_path):
    base, query = unit(200, 4), unit(20, 5)

    @ray.remote(num_cpus=0)
    def pid_of(actor):
        return ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))

    with shard_pool(tmp_path, 2) as pool:
        before = pool(query, base, 4)
        victim = ray.get(pid_of.remote(pool.actors[0]))
        os.kill(victim, signal.SIGKILL)
        after = pool(query, base, 4)
        assert ray.get(pid_of.remote(pool.actors[0])) != victim
    np.testing.assert_array_equal(before[1], after[1])
    np.testing.assert_array_equal(before[0], after[0])
