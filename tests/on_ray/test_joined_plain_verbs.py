"""Verbs that join a cluster: where its dashboard is, what is logged, and folders that it does not see."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray_head import Head, ray_head

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

LAYER = "builtin:e5-small?layers=1"
OPEN = {"RAY_AUTH_MODE": "disabled"}
SCRIPT = Path(__file__).parents[1] / "hidden_folder.py"


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head(OPEN) as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    rows = "".join(f"a text of number {n}\tein Text der Nummer {n}\n" for n in range(40))
    (tmp_path / "pairs.tsv").write_text(f"src\ttgt\n{rows}")
    (tmp_path / "lines.txt").write_text("".join(f"a text of number {n}\n" for n in range(40)))
    texts = {side: [f"{side} text {n}" for n in range(40)] for side in ("src", "tgt")}
    pq.write_table(pa.table(texts), tmp_path / "test.parquet")
    (tmp_path / "suite.yaml").write_text(
        "tasks: [{task: retrieval, data: test.parquet, values: {src_lang: en, tgt_lang: de}}]\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "log", "run", "stage"),
    [
        ("clean pairs.tsv --src-lang en --tgt-lang de --out out", "out/_work/events.jsonl", "out", "clean"),
        (f"encode --input lines.txt --model {LAYER} --out out", "out/_work/events.jsonl", "out", "embed"),
        (
            f"evaluate --model {LAYER} --suite suite.yaml --out out/metrics.json",
            "out/metrics.events.jsonl",
            "out",
            "evaluate 1 models on 1 tasks",
        ),
    ],
    ids=["clean", "encode", "evaluate"],
)
def test_the_dashboard_is_linked_and_the_stages_are_events(
    head: Head, home: Path, arguments: str, log: str, run: str, stage: str
) -> None:
    command = [sys.executable, "-c", "from xalign_dist.cli import main; main()", *arguments.split()]
    done = subprocess.run(
        [*command, "--address", head.address],
        env={**os.environ, **OPEN},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr[-3000:])
    assert f"Ray dashboard: {head.dashboard}" in done.stdout
    events: list[dict[str, Any]] = [json.loads(line) for line in (home / log).read_text().splitlines()]
    assert {event["run"] for event in events} == {run}
    assert [e["message"] for e in events if e["stage"] == stage] == ["stage began", "stage ended"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    home = tmp_path_factory.mktemp("hidden")
    with tempfile.TemporaryDirectory(prefix="xt-hid-", dir="/tmp", ignore_cleanup_errors=True) as private:
        # Where this cluster writes its address, so that no other command on the machine joins it.
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(home)],
            env={**os.environ, "RAY_TMPDIR": private, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, (lines, done.stderr[-3000:])
    return {line["verb"]: line for line in lines}


def test_a_folder_that_every_node_sees_is_taken_and_left_clean(told: dict[str, dict[str, Any]]) -> None:
    assert told["none"]["left"] == []


@pytest.mark.parametrize(
    ("verb", "folder"),
    [
        *((verb, verb) for verb in ("clean", "score", "encode", "mine", "run", "train")),
        ("sweep", "sweep/base"),
        ("ablate", "ablate/shared"),
    ],
)
def test_results_that_the_nodes_would_not_see_are_refused(
    told: dict[str, dict[str, Any]], verb: str, folder: str
) -> None:
    said = told[verb]["said"]
    assert said.startswith(f"ResourceError: /proc/self/fd/900/{folder}: not seen from ")
    assert "put --out on a file system that every node mounts" in said
    assert told[verb]["seconds"] < 30


def test_a_local_copy_that_the_nodes_would_not_see_is_refused(told: dict[str, dict[str, Any]]) -> None:
    said = told["scratch"]["said"]
    assert re.match(r"ResourceError: /proc/self/fd/900/scratch/one-\w+: not seen from ", said), said
    assert "set runtime.scratch to a folder on a file system that every node mounts" in said
    assert told["scratch"]["seconds"] < 30


def test_a_model_that_the_nodes_would_not_see_is_refused(told: dict[str, dict[str, Any]]) -> None:
    said = told["evaluate"]["said"]
    assert said.startswith("ResourceError: /proc/self/fd/900/model: not seen from ")
    assert "every node mounts" in said
