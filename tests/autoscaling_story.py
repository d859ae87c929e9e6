"""A process of its own: embedding, mining and training on a cluster that starts without a node that works.

Prints JSON lines: how many nodes each group had whenever that changed, and what happened.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

MODEL = "builtin:e5-small?layers=1"
STEPS = 60
LINE = threading.Lock()
TEXTS = 52_000
"""26 blocks: by eights, work for three actors."""


def say(what: str, **more: Any) -> None:
    """One line for the test; two threads say something."""
    with LINE:
        print(json.dumps({"what": what, **more}), flush=True)


def watch(address: str, done: threading.Event) -> None:
    """Say how many nodes there are, whenever it changes."""
    from autoscaling_head import pools
    from ray._raylet import GcsClient

    client, before = GcsClient(address=address), None
    while not done.wait(0.25):
        now = pools(client)
        if now != before:
            say("nodes", **now)
            before = now


def emptied(address: str, seconds: float) -> bool:
    """Whether every group is back at zero nodes within ``seconds``."""
    from autoscaling_head import pools
    from ray._raylet import GcsClient

    client, deadline = GcsClient(address=address), time.monotonic() + seconds
    while pools(client):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def mining(address: str, home: Path) -> None:
    """Find the pairs of two small piles."""
    from xalign_dist.config import load_config
    from xalign_dist.pipeline.console import Screen
    from xalign_dist.pipeline.files import mine_files

    settings = load_config(None, [f"runtime.address={address}", "mining.second_view=none"])
    found = mine_files(
        MODEL, str(home / "en.txt"), str(home / "de.txt"), {}, str(home / "mined"), settings,
        Screen(enabled=False), "en", "de",
    )  # fmt: skip
    say("mined", candidates=found["candidates"])


def embedding(address: str, home: Path) -> None:
    """Enough texts for all the nodes of the data group."""
    _encode(address, home, "many", TEXTS)


def large_index(address: str, home: Path) -> None:
    """The two small piles again, with an index that is worth three nodes."""
    from xalign_dist.config import load_config
    from xalign_dist.pipeline.console import Screen
    from xalign_dist.pipeline.files import mine_files
    from xalign_dist.runtime import resources

    class Told(Screen):
        def say(self, *lines: str) -> None:
            for text in lines:
                say("said", text=text)

    worth, resources.ROWS_PER_NODE = resources.ROWS_PER_NODE, 30
    settings = load_config(None, [f"runtime.address={address}", "mining.second_view=none"])
    try:
        found = mine_files(
            MODEL, str(home / "en.txt"), str(home / "de.txt"), {}, str(home / "index"), settings,
            Told(enabled=False), "en", "de",
        )  # fmt: skip
    finally:
        resources.ROWS_PER_NODE = worth
    say("indexed", candidates=found["candidates"])


def gpus(address: str, home: Path) -> None:
    """One is waited for; then embedding brings two nodes with one each, of the group that it names."""
    from xalign_dist.config import RuntimeConfig
    from xalign_dist.runtime.demand import Demand
    from xalign_dist.runtime.session import ray_session
    from xalign_dist.runtime.waiting import wait_for

    with ray_session(RuntimeConfig(address=address), str(home / "ray.log")):
        one = Demand("a look at a GPU", 1, {"GPU": 1.0}, {"xalign/pool": "train"})
        wait_for(one, lambda text: say("said", text=text))
    say("has a GPU")
    named = [
        "runtime.gpus_per_worker=1",
        "runtime.embed_actors=2",
        "runtime.node_labels={xalign/pool: train}",
    ]
    _encode(address, home, "gpus", 5000, *named)


def _encode(address: str, home: Path, name: str, texts: int, *more: str) -> None:
    """Sentences of like length, of which no two are the same."""
    from xalign_dist.config import load_config
    from xalign_dist.pipeline.console import Screen
    from xalign_dist.pipeline.files import encode_file

    source = home / f"{name}.txt"
    source.write_text("\n".join(f"word {n} of {n * 7919 % 10007}" for n in range(texts)), "utf-8")
    settings = load_config(None, [f"runtime.address={address}", *more])
    done = encode_file(MODEL, str(source), {}, str(home / name), settings, Screen(enabled=False))
    say("embedded", name=name, texts=done["texts"])


def training(address: str, home: Path) -> None:
    """Two workers on the group that trains."""
    from training_world import elastic_job

    from xalign_dist.config import RuntimeConfig
    from xalign_dist.runtime.session import ray_session
    from xalign_dist.runtime.train import train

    labels = {"xalign/pool": "train"}
    runtime = RuntimeConfig(address=address, train_workers=2, gpus_per_worker=0, node_labels=labels)
    job = elastic_job(home, "autoscaled", STEPS)
    with ray_session(runtime, str(home / "ray.log"), trains=True):
        result = train(job, runtime, str(home / "ray"), say=lambda text: say("said", text=text))
    say("trained", steps=result.steps)


def gpu_training(address: str, home: Path) -> None:
    """A worker with a GPU: the group's nodes say that they have one, and torch finds none on them."""
    from training_world import elastic_job

    from xalign_dist.config import RuntimeConfig
    from xalign_dist.errors import XalignError
    from xalign_dist.runtime.session import ray_session
    from xalign_dist.runtime.train import train

    labels = {"xalign/pool": "train"}
    runtime = RuntimeConfig(
        address=address, train_workers=1, gpus_per_worker=1, node_labels=labels, max_failures=0
    )
    job = elastic_job(home, "on-gpus", STEPS)
    with ray_session(runtime, str(home / "ray.log"), trains=True):
        started = time.monotonic()
        try:
            train(job, runtime, str(home / "ray"), say=lambda text: say("said", text=text))
        except XalignError as err:
            say("failed", text=f"{type(err).__name__}: {err}", seconds=time.monotonic() - started)


def refused(address: str) -> None:
    """More than the groups may ever have."""
    from xalign_dist.config import RuntimeConfig
    from xalign_dist.errors import ResourceError
    from xalign_dist.runtime.session import ray_session

    for settings in (
        {"train_workers": 3, "node_labels": {"xalign/pool": "train"}},
        {"train_workers": 1, "gpus_per_worker": 4},
    ):
        started = time.monotonic()
        try:
            with ray_session(RuntimeConfig(address=address, **settings), trains=True):  # type: ignore[arg-type]
                say("let through", **settings)
        except ResourceError as err:
            say("refused", text=str(err), seconds=time.monotonic() - started)


def main(address: str, home: Path) -> None:
    """The story."""
    logging.basicConfig(level=logging.WARNING)
    done = threading.Event()
    watcher = threading.Thread(target=watch, args=(address, done))
    watcher.start()
    try:
        refused(address)
        say("begin")
        for part in (mining, embedding, large_index, gpus, training, gpu_training):
            part(address, home)
            say("empty", after=part.__name__, well=emptied(address, 90))
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
