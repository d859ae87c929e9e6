"""Two of three nodes are killed during embedding, mining and a sweep: the work ends right on what is left.

Training has its own test, test_on_ray_elastic.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

STORY = Path(__file__).parents[1] / "lost_nodes.py"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    home = tmp_path_factory.mktemp("lost")
    with tempfile.TemporaryDirectory(prefix="xt-lost-", dir="/tmp", ignore_cleanup_errors=True) as private:
        # Where this cluster writes its address, so that no other command on the machine joins it.
        environment = {**os.environ, "RAY_TMPDIR": private, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, str(STORY), str(home)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, (told, done.stderr[-3000:])
    return {event["what"]: event for event in told}


def test_embedding_ends_with_every_text_and_the_right_vectors(story: dict[str, dict[str, Any]]) -> None:
    embedded = story["embedded"]
    assert embedded["texts"] == 12000
    assert embedded["apart"] < 1e-4
    assert embedded["left"] == 1
    # The blocks that two of three actors had under way; one that was begun twice waited for its node's death.
    assert 1 <= len(embedded["losses"]) <= 6
    for loss in embedded["losses"]:
        assert 0.1 < loss["seconds"] < embedded["seconds"]
        said = re.search(r"begun again ([\d.]+) s after", loss["text"])
        # Both are rounded, to tenths and to hundredths.
        assert said
        assert float(said[1]) == pytest.approx(loss["seconds"], abs=0.06)


def test_mining_finds_the_same_neighbours(story: dict[str, dict[str, Any]]) -> None:
    mined = story["mined"]
    assert mined["blocks"] > 2, "the nodes went in the middle"
    assert (mined["queries"], mined["same"]) == (16384, 1.0)
    assert mined["left"] == 1


def test_each_shard_that_was_lost_is_told_with_its_time(story: dict[str, dict[str, Any]]) -> None:
    mined = story["mined"]
    # Six actors spread over three nodes, of which one is left.
    assert 1 <= len(mined["losses"]) <= 5
    assert len({loss["shard"] for loss in mined["losses"]}) == len(mined["losses"])
    assert max(loss["seconds"] for loss in mined["losses"]) > 0.1, "an actor starts, and opens its shard"
    for loss in mined["losses"]:
        assert 0 <= loss["seconds"] < mined["seconds"]
        assert loss["text"] == (
            f"index shard {loss['shard']} of 6 was lost and opened again from disk: {loss['seconds']:.1f} s "
            "until its answer came"
        )
    assert [loss["text"] for loss in mined["losses"]] == mined["told"], "on the console as well"


def test_a_sweep_runs_the_lost_trials_again_and_no_other(story: dict[str, dict[str, Any]]) -> None:
    swept = story["swept"]
    assert swept["ended"] == 8
    assert swept["values"] == pytest.approx([0.08 * n for n in range(1, 9)])
    # Four of the six that ran were on the nodes that went.
    assert 8 + 1 <= swept["starts"] <= 8 + 4
    assert swept["left"] == 1
    assert len(swept["losses"]) == swept["starts"] - 8
    for loss in swept["losses"]:
        assert 0 < loss["seconds"] < swept["seconds"]
        assert loss["text"].startswith(f"trial {loss['trial']} lost its process or node after")
