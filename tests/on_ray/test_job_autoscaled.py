"""A job on a cluster at rest: a node comes for its driver, none of spot, and goes when it has ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autoscaling_head import POOL, autoscaling_head

from jobs.following import follow
from jobs.submit import SAFE, Submission, connect, submit

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

MARKET = "xalign/market"
JOB = """
import json, ray
ray.init(log_to_driver=False)
print("labels", json.dumps({n["NodeID"]: n["Labels"] for n in ray.nodes()}))
"""


class _Shell(Submission):
    """A request whose entry point is a script: what is tested is where it runs."""

    @property
    def entrypoint(self) -> str:
        return "python job.py"


@contextlib.contextmanager
def _watched(address: str, file: Path) -> Iterator[None]:
    """``file`` gets a JSON line whenever the number of a group's nodes changed."""
    tests = str(Path(__file__).parents[1])
    script = f"import threading; from autoscaling_story import watch; watch({address!r}, threading.Event())"
    environment = {**os.environ, "PYTHONPATH": tests, "RAY_AUTH_MODE": "disabled"}
    with file.open("wb") as out:
        watch = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=out)
    try:
        yield
    finally:
        watch.kill()
        watch.wait()


def _nodes(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_driver_brings_a_node_that_may_not_be_taken_back_and_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "job.py").write_text(JOB)
    request = _Shell("run", ("--out", "/runs/at-rest"), labels=SAFE, folder=tmp_path / "code")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The autoscaler would take spot, whose nodes fit more closely.
    groups = {"a-spot": ({"CPU": 1}, 2), "data": ({"CPU": 2}, 2)}
    markets = {"a-spot": {MARKET: "spot"}, "data": {MARKET: "on-demand"}}
    file = tmp_path / "nodes.jsonl"
    with autoscaling_head(groups, 6, markets, {"PATH": path}) as head, _watched(head.address, file):
        client = connect(head.dashboard)
        name, _ = submit(client, request)
        assert follow(client, name) == 0, client.get_job_info(name).message
        known = json.loads(client.get_job_logs(name).partition("labels ")[2].splitlines()[0])
        node = client.get_job_info(name).driver_node_id
        assert node is not None
        labels = known[node]
        assert (labels[POOL], labels[MARKET]) == ("data", "on-demand")
        deadline = time.monotonic() + 120
        while _nodes(file)[-1].get("data"):
            assert time.monotonic() < deadline, _nodes(file)
            time.sleep(0.5)
        assert max(event.get("data", 0) for event in _nodes(file)) == 1
        assert not any(event.get("a-spot") for event in _nodes(file))
