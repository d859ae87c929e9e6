"""What the verbs themselves report while they work on a cluster, read where Prometheus reads it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from ray_head import Head, free_ports, ray_head
from training_world import pairs, write_model

from xalign_dist.runtime.metrics import FIGURES

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

OPEN = {"RAY_AUTH_MODE": "disabled"}
PAIRS, SENTENCES, STEPS, TAU = 600, {"eng": 90, "fra": 70}, 20, 0.085
OUR_TAGS = ("stage", "shard", "src_lang", "tgt_lang", "source")
#: Figures of a step, by the name that its record in telemetry.jsonl has for them.
OF_A_STEP = {
    "step": "step",
    "loss": "loss",
    "pairs_per_second": "pairs_per_second",
    "data_wait_share": "data_wait_share",
    "padding_share": "padding_share",
    "batch_accuracy": "accuracy",
    "tau": "tau",
}


@dataclass
class Offered:
    """Every value that the node has offered of a series; the series by its name and our own tags.

    A driver that has ended is soon forgotten there, so that one look at the end would not do; until
    then it must not be taken for the next one.
    """

    port: int
    earlier: frozenset[str]
    seen: dict[str, dict[tuple[str, ...], set[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )

    def look(self) -> None:
        for name, tags, value in _read(self.port):
            if tags["WorkerId"] not in self.earlier:
                self.seen[name][tuple(tags[tag] for tag in OUR_TAGS if tag in tags)].add(value)

    def alone(self, name: str) -> set[float]:
        """Of a figure without tags."""
        return self.seen[name][()]

    def last(self, name: str, *tags: str) -> float:
        """Of one that only grows."""
        return max(self.seen[name][tags], default=math.nan)


def _read(port: int) -> list[tuple[str, dict[str, str], float]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    lines = re.findall(r"^ray_xalign_(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE)
    return [(name, dict(re.findall(r'(\w+)="([^"]*)"', tags)), float(value)) for name, tags, value in lines]


def _await_agent(port: int) -> None:
    """The node's agent, which offers the figures, comes up after the dashboard."""
    deadline = time.monotonic() + 120
    while True:
        try:
            _read(port)
        except OSError:
            assert time.monotonic() < deadline, "no agent offers figures"
            time.sleep(0.5)
        else:
            return


def _watched(head: Head, port: int, home: Path, *arguments: str) -> Offered:
    offered = Offered(port, frozenset(tags["WorkerId"] for _, tags, _ in _read(port)))
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            with contextlib.suppress(OSError):  # a look that is missed on a busy machine; more will come
                offered.look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "xalign_dist", *arguments, "--address", head.address],
            env={**os.environ, **OPEN, "OMP_NUM_THREADS": "1"},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    finally:
        done.set()
        watcher.join()
    assert ended.returncode == 0, (ended.stdout, ended.stderr[-3000:])
    offered.look()  # a process says its last when it ends
    return offered


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    model = write_model(folder / "model", dropout=0.0)
    pq.write_table(
        pairs(PAIRS).select(["src", "tgt", "src_lang", "tgt_lang", "source"]), folder / "pairs.parquet"
    )
    corpora: list[dict[str, Any]] = [{"path": "pairs.parquet"}]
    table = pairs(PAIRS + 200)
    french = table.filter(pa.compute.equal(table["tgt_lang"], "fra")).slice(PAIRS // 2)
    for side, (lang, rows) in zip(("src", "tgt"), SENTENCES.items(), strict=True):
        file = f"{lang}.txt"
        (folder / file).write_text("\n".join(french[side].to_pylist()[:rows]))
        corpora.append({"path": file, "kind": "sentences", "src_lang": lang})
    config = {
        "corpora": corpora,
        "cleaning": {"filters": ["exact_duplicate"]},
        "encoder": {"model": model},
        "scoring": {"reference": model},
        "mining": {"second_view": "none", "shards": 2},
        "training": {"steps": STEPS, "batch_pairs": 16, "learning_rate": 0.001},
        "rounds": {"count": 1},
        "objective": {"temperature": {"enabled": False, "fixed": TAU}},
        "evaluation": {"bootstrap": 100, "permutations": 100, "baselines": [], "projection_points": 0},
        "runtime": {"train_workers": 1, "gpus_per_worker": 0},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Head, int]]:
    (port,) = free_ports(1)
    with ray_head(OPEN, options=(f"--metrics-export-port={port}",)) as head:
        _await_agent(port)
        yield head, port


@pytest.fixture(scope="module")
def run(cluster: tuple[Head, int], home: Path) -> Offered:
    return _watched(*cluster, home, "run", "run.yaml", "--out", "run")


def _noise(offered: Offered, audit: Path) -> None:
    entries = json.loads(audit.read_text())["entries"]
    parallel = [entry for entry in entries if entry["source"] != "mined"]
    assert {entry["tgt_lang"] for entry in parallel} == {"fra", "deu"}
    for entry in parallel:
        (share,) = offered.seen["noise_share"][entry["src_lang"], entry["tgt_lang"], entry["source"]]
        assert share == pytest.approx(entry["noise_estimated"])
        assert 0 <= share <= 1
    assert len(offered.seen["noise_share"]) == len(parallel), "what was mined has no estimate of noise"


def _training(offered: Offered, out: Path) -> None:
    lines = (out / "telemetry" / "adaptive.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for figure, key in OF_A_STEP.items():
        told = [record[key] for record in records if key in record]
        shown = offered.alone(figure)
        assert shown, f"{figure} was never offered"
        assert all(any(value == pytest.approx(t) for t in told) for value in shown), (figure, shown, told)
    assert max(offered.alone("step")) == STEPS
    assert min(offered.alone("pairs_per_second")) > 0
    for share in ("data_wait_share", "padding_share", "batch_accuracy"):
        assert all(0 <= value <= 1 for value in offered.alone(share)), share


def test_a_run_reports_every_figure_of_the_dashboard(run: Offered) -> None:
    shown = {name for name, series in run.seen.items() if any(series.values())}
    wanted = {name + "_total" * figure.grows for name, figure in FIGURES.items()}
    assert {f"xalign_{name}" for name in shown} == wanted


def test_a_run_reports_the_rows_of_every_stage(run: Offered, home: Path) -> None:
    sentences = sum(SENTENCES.values())
    assert run.last("rows_total", "clean") == PAIRS + sentences
    counts = json.loads((home / "run" / "manifest.json").read_text())["stages"]
    scored = counts["round 1: score"]["counts"]["pairs"]
    assert 0 < scored < PAIRS
    assert run.last("rows_total", "round 1: score") == scored
    assert run.last("rows_total", "round 1: mine") == SENTENCES["fra"]
    embedded = counts["embed with the reference encoder"]["counts"]["texts"]
    assert run.last("rows_total", "embed with the reference encoder") == embedded
    assert run.last("rows_total", "adaptive: round 1") == STEPS


def test_a_run_reports_its_index_shards(run: Offered) -> None:
    # Each side is searched in turn, by two shards that share its rows.
    first, second = (run.seen["shard_rows"][str(number),] for number in range(2))
    assert len(run.seen["shard_rows"]) == 2
    sums = {round(a + b) for a in first for b in second}
    assert sums & set(SENTENCES.values()), (first, second)
    assert all(value in {rows / 2 for rows in SENTENCES.values()} for value in first | second)


def test_a_run_reports_the_noise_that_its_audit_says(run: Offered, home: Path) -> None:
    _noise(run, home / "run" / "pairs" / "round=1" / "audit.json")


def test_a_run_reports_its_training(run: Offered, home: Path) -> None:
    _training(run, home / "run")
    assert list(run.alone("tau")) == [pytest.approx(TAU)]


def test_score_alone_reports_rows_and_noise(cluster: tuple[Head, int], home: Path) -> None:
    offered = _watched(
        *cluster, home, "score", "--model", "model", "--pairs", "pairs.parquet", "--out", "scored"
    )
    _noise(offered, home / "scored" / "audit.json")
    assert offered.last("rows_total", "score") == PAIRS


def test_a_training_in_the_command_itself_reports_the_same(cluster: tuple[Head, int], home: Path) -> None:
    settings = ("runtime.train_workers=0", "objective.temperature.fixed=0.11")
    arguments = ("train", "run.yaml", *settings, "--pairs", "pairs.parquet", "--out", "trained")
    offered = _watched(*cluster, home, *arguments)
    _training(offered, home / "trained")
    assert list(offered.alone("tau")) == [pytest.approx(0.11)]
