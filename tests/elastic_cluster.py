"""A process of its own: training on two real raylets that a third joins; one is drained, one killed.

Prints JSON lines: what happened, and after every start how many workers there are.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

BEGAN = time.monotonic()
NODE: dict[str, Any] = {"object_store_memory": 80 * 2**20}


def say(what: str, **more: Any) -> None:
    """One line for the test."""
    print(json.dumps({"at": round(time.monotonic() - BEGAN, 1), "what": what, **more}), flush=True)


class Story:
    """Takes the nodes away as the steps go by."""

    def __init__(self, cluster: Any, nodes: list[Any], work: str) -> None:
        self.cluster, self.nodes, self.work = cluster, nodes, work
        self.starts, self.first, self.asked_at = 0, 0, 0
        self.began = False

    def started(self, text: str) -> None:
        """The workers are about to begin (again), or something else is said."""
        if not text.startswith("memory per worker"):
            say("said", text=text)
            return
        self.starts, self.began = self.starts + 1, False
        say("start", text=text)

    def on_step(self, record: dict[str, Any]) -> None:
        """20 steps after each start of the workers: a node more, then one less, then one less."""
        import ray

        if not self.began:
            self.began, self.first = True, record["step"]
            free, nodes = ray.available_resources(), [n for n in ray.nodes() if n["Alive"]]
            used = sum(n["Resources"].get("CPU", 0) for n in nodes) - free.get("CPU", 0)
            say("first step", step=record["step"], cpus=used, nodes=len(nodes) - 1)
        if record["step"] - self.first != 20:
            return
        if self.starts <= len(changes := (self.grow, self.drain, self.kill)):
            threading.Thread(target=changes[self.starts - 1], daemon=True).start()

    def grow(self) -> None:
        """What an autoscaler does once the machines are there; the workers save before they are ended."""
        # A handler of signals, which only the main thread may set; main() ends all nodes anyway.
        self.cluster._shutdown_at_exit = False
        self.nodes.append(self.cluster.add_node(num_cpus=1, **NODE))
        say("grown")

    def drain(self) -> None:
        """The notice of a spot node that goes within 30 seconds: here, once there is a checkpoint."""
        import ray
        from ray._raylet import GcsClient

        node, grace = self.nodes[2], 30
        deadline = int((time.time() + grace) * 1000)
        gcs = GcsClient(address=self.cluster.address)
        accepted, why = gcs.drain_node(node.node_id, 2, "the test takes it", deadline)  # 2: preemption
        say("drained", accepted=accepted, why=why)
        before, seen = self.checkpoints(), list[str]()
        while time.time() * 1000 < deadline and not seen:
            time.sleep(0.1)
            seen = sorted(self.checkpoints() - before)
        say("checkpoint in time", names=seen, left=deadline / 1000 - time.time())
        self.cluster.remove_node(node, allow_graceful=False)
        say("gone", alive=sum(n["Alive"] for n in ray.nodes()) - 1)

    def checkpoints(self) -> set[str]:
        """The names of all there are."""
        return {p.name for p in Path(self.work, "checkpoints").glob("step=*")}

    def kill(self) -> None:
        """Without a word."""
        self.cluster.remove_node(self.nodes[1], allow_graceful=False)
        say("killed")


def main(home: str, steps: int) -> None:
    """Train ``steps`` steps in ``home``."""
    os.environ |= {"RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1", "RAY_worker_niceness": "0"}
    import ray
    from ray.cluster_utils import Cluster

    sys.path.insert(0, str(Path(__file__).parent))
    from training_world import elastic_job

    from xalign_dist.config import RuntimeConfig
    from xalign_dist.runtime import train as runtime_train

    job = elastic_job(Path(home), "elastic", steps)
    runtime_train.GROW_SECONDS = 3  # so that the test is short
    # A CPU each, as where the groups start at zero: thirds of what is here would all fit on the first node.
    demand = runtime_train.training_demand
    runtime_train.training_demand = lambda runtime, total: demand(runtime, {})
    head = {"num_cpus": 0, "include_dashboard": False, **NODE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        # While the head is alone: later a driver may be given any of the nodes, also one that is killed.
        ray.init(address=cluster.address, log_to_driver=False)
        nodes = [cluster.add_node(num_cpus=1, **NODE) for _ in range(2)]
        story = Story(cluster, nodes, job.work)
        runtime = RuntimeConfig(train_workers=1, train_workers_max=3, max_failures=3)
        result = runtime_train.train(job, runtime, str(Path(home) / "ray"), story.on_step, story.started)
        say("done", steps=result.steps)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
