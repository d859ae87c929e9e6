"""A process of its own: embedding, mining and a sweep on three real raylets, of which two are killed.

Prints JSON lines: what was done, how long it took, what was logged as lost, and how many nodes were left.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODEL = "builtin:e5-small?layers=1"


def say(what: str, **more: Any) -> None:
    """One line for the test."""
    print(json.dumps({"what": what, **more}), flush=True)


class Losses(logging.Handler):
    """Keeps what the log says was lost."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[dict[str, Any]] = []
        for name in ("xalign_dist", "tuning"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        figures = getattr(record, "figures", {})
        if figures.get("event") == "lost":
            self.found.append({"text": record.getMessage(), **figures})

    def taken(self) -> list[dict[str, Any]]:
        """Those since the last call."""
        found, self.found = self.found, []
        return found


LOSSES = Losses()


class Nodes:
    """Two nodes beside the head, that can be killed and replaced."""

    def __init__(self) -> None:
        import ray
        from ray.cluster_utils import Cluster

        self.size: dict[str, Any] = {"object_store_memory": 80 * 2**20}
        head = {"num_cpus": 2, "include_dashboard": False, **self.size}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        # While the head is alone: later a driver may be given any of the nodes, also one that is killed.
        ray.init(address=self.cluster.address, log_to_driver=False)
        self.nodes: list[Any] = []
        self.fill()

    def fill(self) -> None:
        """Two of them again."""
        while len(self.nodes) < 2:
            self.nodes.append(self.cluster.add_node(num_cpus=2, **self.size))
        self.cluster.wait_for_nodes()

    def kill(self) -> None:
        """Both, without a word."""
        while self.nodes:
            self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def kill_soon(self) -> Callable[..., None]:
        """To be called when work is under way: the first call kills, in a thread of its own."""
        once = threading.Event()

        def called(*_: Any) -> None:
            if not once.is_set():
                once.set()
                threading.Thread(target=self.kill, daemon=True).start()

        return called


def embedding(nodes: Nodes, home: Path) -> None:
    """Every text has the vector that one process gives it."""
    import numpy as np

    from xalign_dist.config import EncoderConfig, RuntimeConfig
    from xalign_dist.encoder import embed_texts, load_encoder
    from xalign_dist.runtime.resources import cluster_resources
    from xalign_dist.runtime.vectors import EmbedJob, embed_corpus

    texts = [f"word {n} of {n * 7919 % 10007}" for n in range(12000)]
    encoder = EncoderConfig(model=MODEL)
    runtime = RuntimeConfig(embed_actors=3)
    started = time.monotonic()
    store = embed_corpus(
        texts,
        EmbedJob(MODEL, encoder),
        str(home / "vectors"),
        runtime,
        cluster_resources(),
        _after_first(nodes),
    )
    seconds = time.monotonic() - started
    sample = texts[::600]
    apart = np.abs(store(sample) - embed_texts(load_encoder(MODEL, encoder), sample)).max()
    what = {"texts": len(store.keys), "apart": float(apart), "seconds": seconds, "losses": LOSSES.taken()}
    say("embedded", **what, left=_alive())


def _after_first(nodes: Nodes) -> Callable[[int], None]:
    """Progress is told once at the start, of what is there already."""
    kill = nodes.kill_soon()

    def progress(rows: int) -> None:
        if rows:
            kill()

    return progress


def mining(nodes: Nodes, home: Path) -> None:
    """The neighbours are those of an exact search in one process."""
    import numpy as np

    from xalign_dist.mining import exact_knn
    from xalign_dist.mining.knn import block_bounds
    from xalign_dist.runtime.shards import shard_pool

    rng = np.random.default_rng(0)
    base, query = (rng.standard_normal((n, 64)).astype(np.float32) for n in (20000, 16384))
    base, query = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (base, query))
    started, kill, found, told = time.monotonic(), nodes.kill_soon(), [], list[str]()
    with shard_pool(home / "index", 6, say=told.append) as pool:
        for _, lists in pool.blocks(query, base, 8, block_bounds(len(query), 1024)):
            found.append(lists[1])
            kill()
    seconds = time.monotonic() - started
    _, rows = exact_knn(query[:512], base, 8)
    same = float((np.concatenate(found)[:512] == rows).mean())
    what = {"blocks": len(found), "queries": sum(map(len, found)), "same": same, "seconds": seconds}
    say("mined", **what, losses=LOSSES.taken(), told=told, left=_alive())


def sweeping(nodes: Nodes, home: Path) -> None:
    """Every trial ends; one whose node is gone is run again."""
    from tuning.space import Space
    from tuning.sweep import Limits, Sweep

    def objective(overrides: Any, out: str, report: Any) -> dict[str, float]:
        import time

        number = int(overrides[-1].split("=")[1])
        with (home / "starts").open("a") as log:
            log.write(f"{number}\n")
        time.sleep(4)
        return {"accuracy": number / 100}

    grid = {"grid": [8 * n for n in range(1, 9)]}
    space = Space.model_validate(
        {"metric": "accuracy", "trial_cpus": 1, "parameters": {"training.batch_pairs": grid}}
    )
    started = time.monotonic()
    sweep = Sweep(space, objective, str(home / "sweep"), limits=Limits(concurrent=6))
    threading.Thread(target=_kill_when, args=(nodes, home / "starts"), daemon=True).start()
    found = sweep.search()
    starts = (home / "starts").read_text().split()
    say(
        "swept",
        values=sorted(t.value or 0.0 for t in found),
        ended=sum(t.ended for t in found),
        starts=len(starts),
        losses=LOSSES.taken(),
        seconds=time.monotonic() - started,
        left=_alive(),
    )


def _kill_when(nodes: Nodes, starts: Path) -> None:
    """Once six trials run, which is more than the head takes."""
    while not starts.exists() or len(starts.read_text().split()) < 6:
        time.sleep(0.1)
    nodes.kill()


def _alive() -> int:
    import ray

    deadline = time.monotonic() + 30
    while sum(n["Alive"] for n in ray.nodes()) > 1 and time.monotonic() < deadline:
        time.sleep(0.5)  # the cluster learns of a death by silence
    return sum(n["Alive"] for n in ray.nodes())


def main(home: Path) -> None:
    """One after the other, with two new nodes each time."""
    os.environ |= {"RAY_worker_niceness": "0", "RAY_health_check_period_ms": "500"}
    import ray

    nodes = Nodes()
    try:
        for story in (embedding, mining, sweeping):
            nodes.fill()
            story(nodes, home)
    finally:
        ray.shutdown()
        nodes.cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
