"""The real autoscaler on this machine: groups start at zero nodes, grow with the work, and end at zero."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscaling_head import autoscaling_head
from ray_head import Head
from training_world import elastic_job

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(1200)]

STORY = Path(__file__).parents[1] / "autoscaling_story.py"
WORDS = ["house", "river", "letter", "window", "garden", "street", "mother", "winter", "doctor", "bridge"]
WOERTER = ["Haus", "Fluss", "Brief", "Fenster", "Garten", "Straße", "Mutter", "Winter", "Arzt", "Brücke"]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # The GPU is a name here, as for the autoscaler: it keeps such nodes for those who ask for them.
    groups = {"data": ({"CPU": 3}, 3), "train": ({"CPU": 1, "GPU": 1}, 2)}
    with autoscaling_head(groups, idle_seconds=6) as found:
        yield found


@pytest.fixture(scope="module")
def story(head: Head, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    home = tmp_path_factory.mktemp("autoscaling")
    for name, words, between in (("en", WORDS, "and the"), ("de", WOERTER, "und")):
        lines = [f"{a} {between} {b}" for a in words for b in words if a != b]
        (home / f"{name}.txt").write_text("\n".join(lines), "utf-8")
    elastic_job(home, "autoscaled", 60)  # writes the model, away from the clock
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, str(STORY), head.address, str(home)],
        env={**clean, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, (told, done.stderr[-3000:])
    return told


def _one(story: list[dict[str, Any]], what: str, **more: str) -> dict[str, Any]:
    (found,) = (event for event in story if event.items() >= {"what": what, **more}.items())
    return found


def _between(story: list[dict[str, Any]], start: str, end: str) -> list[dict[str, Any]]:
    names = [event["what"] for event in story]
    return story[names.index(start) : names.index(end)]


def _most(events: list[dict[str, Any]], group: str) -> int:
    return max(event.get(group, 0) for event in events if event["what"] == "nodes")


def test_what_no_group_can_give_is_refused_at_once(story: list[dict[str, Any]]) -> None:
    too_many, too_large = (event for event in story if event["what"] == "refused")
    assert "training asks for 3 x (1 CPU) on nodes with xalign/pool=train" in too_many["text"]
    assert "there is room for 2; the nearest is group train, which may have 2 nodes" in too_many["text"]
    assert "training asks for 1 x (1 CPU, 4 GPU)" in too_large["text"]
    assert "the nearest is group train, whose nodes have 1 CPU, 1 GPU each" in too_large["text"]
    assert max(too_many["seconds"], too_large["seconds"]) < 20
    # Nothing was started for them.
    assert not any(event.get("data") or event.get("train") for event in story[: story.index(too_large)])


def test_a_small_mining_brings_one_node_for_data_and_none_to_train_and_leaves_none(
    story: list[dict[str, Any]],
) -> None:
    events = _between(story, "begin", "mined")
    assert _most(events, "data") == 1
    assert _most(events, "train") == 0
    (mined,) = (event for event in story if event["what"] == "mined")
    assert mined["candidates"] > 0
    assert {"what": "empty", "after": "mining", "well": True} in story


def _part(story: list[dict[str, Any]], before: str, name: str) -> list[dict[str, Any]]:
    """From the moment when all groups were at zero again after ``before`` to that after ``name``."""
    start, end = (story.index(_one(story, "empty", after=part)) for part in (before, name))
    return story[start:end]


def test_much_to_embed_brings_all_the_nodes_of_the_data_group_and_leaves_none(
    story: list[dict[str, Any]],
) -> None:
    events = _part(story, "mining", "embedding")
    assert _most(events, "data") == 3
    assert _most(events, "train") == 0
    assert _one(story, "embedded", name="many")["texts"] == 52_000
    assert _one(story, "empty", after="embedding")["well"]


def test_a_large_index_brings_its_nodes_first_and_leaves_none(story: list[dict[str, Any]]) -> None:
    events = _part(story, "embedding", "large_index")
    assert _most(events, "data") == 3
    waits = next(event["text"] for event in events if "waits for" in event.get("text", ""))
    asked = r"mining waits for 3 x \(2 CPU\): the cluster has [12] of 3, "
    assert re.match(asked + r"to be added by group data, for \d+ s so far", waits), waits
    # The same pairs, whatever the number of shards.
    assert _one(story, "indexed")["candidates"] == _one(story, "mined")["candidates"]
    assert _one(story, "empty", after="large_index")["well"]


def test_a_wait_for_a_gpu_names_what_is_missing_and_embedding_goes_to_the_group_that_it_names(
    story: list[dict[str, Any]],
) -> None:
    events = _part(story, "large_index", "gpus")
    said = [event["text"] for event in events if event["what"] == "said"]
    asked = r"a look at a GPU waits for 1 x \(1 GPU\) on nodes with xalign/pool=train: "
    assert re.match(asked + r"the cluster has 0 of 1, to be added by group train, for \d+ s so far", said[0])
    assert re.match(r"a look at a GPU has 1 x \(1 GPU\) on nodes .* after \d+ s", said[-1])
    until = events.index(_one(story, "has a GPU"))
    assert _most(events[:until], "train") == 1
    assert _most(events[until:], "train") == 2
    assert _one(story, "embedded", name="gpus")["texts"] == 5000
    assert _one(story, "empty", after="gpus")["well"]


def test_training_waits_for_its_nodes_says_so_and_leaves_none(story: list[dict[str, Any]]) -> None:
    events = _part(story, "gpus", "training")
    assert _most(events, "train") == 2
    said = [event["text"] for event in events if event["what"] == "said"]
    waits = next(text for text in said if "waits for" in text)
    # One of the two may have come before the first word.
    asked = r"training waits for 2 x \(1 CPU\) on nodes with xalign/pool=train: "
    assert re.match(asked + r"the cluster has [01] of 2, to be added by group train", waits), waits
    assert any(text.startswith("training has 2 x (1 CPU)") for text in said)
    assert {"what": "trained", "steps": 60} in story
    assert {"what": "empty", "after": "training", "well": True} in story


def test_training_on_gpus_waits_for_its_group_and_says_where_torch_finds_none(
    story: list[dict[str, Any]],
) -> None:
    events = _part(story, "training", "gpu_training")
    said = [event["text"] for event in events if event["what"] == "said"]
    asked = r"training waits for 1 x \(1 CPU, 1 GPU\) on nodes with xalign/pool=train: "
    assert re.match(asked + r"the cluster has 0 of 1, to be added by group train, for \d+ s so far", said[0])
    assert re.match(r"training has 1 x \(1 CPU, 1 GPU\) on nodes .* after \d+ s", said[-1])
    # One for the worker; as it is slow to leave, the question why it failed may bring another.
    assert 1 <= _most(events, "train") <= 2
    # The node came, the worker was placed on it, and there the promised GPU is only a name.
    failed = _one(events, "failed")
    asks = r"ResourceError: training asks for 1 x \(1 CPU, 1 GPU\) on nodes with xalign/pool=train, "
    assert re.match(asks + r"and torch finds no GPU on \S+\n", failed["text"]), failed["text"]
    assert "set runtime.gpus_per_worker=0 to train on CPUs" in failed["text"]
    assert _one(story, "empty", after="gpu_training")["well"]
