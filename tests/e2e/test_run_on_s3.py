"""`xalign run` and `train` to an S3 server: killed, moved to another machine, finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import django
import pytest
import yaml
from s3_server import Server

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.read import read_corpus
from xalign_dist.training.telemetry import read_telemetry

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(1200)]

LAYER = "builtin:e5-small?layers=1"
CONFIG: dict[str, Any] = {
    "corpora": [{"path": "pairs.jsonl", "source": "tiny"}],
    "encoder": {"model": LAYER},
    "scoring": {"reference": LAYER},
    "mining": {"second_view": "none"},
    # Long enough that a checkpoint of the second round is uploaded before its end on a quick machine too.
    "training": {"steps": 300, "batch_pairs": 32, "checkpoint_every": 10},
    "rounds": {"count": 2},
    "evaluation": {"bootstrap": 100, "permutations": 100, "baselines": []},
    "runtime": {"train_workers": 0},
}


@pytest.fixture
def place(tmp_path) -> Path:
    path = Path(django.__file__).parent / "contrib" / "admin" / "locale" / "de" / "LC_MESSAGES" / "django.po"
    rows: dict[str, str] = {}
    for chunk in read_corpus(CorpusConfig(path=str(path), src_lang="en", tgt_lang="de")):
        for src, tgt in zip(chunk.kept["src"].to_pylist(), chunk.kept["tgt"].to_pylist(), strict=True):
            if "\n" not in src + tgt:
                rows.setdefault(src, tgt)
    lines = [{"src": s, "tgt": t, "src_lang": "en", "tgt_lang": "de"} for s, t in rows.items()]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines), "utf-8")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


def start(
    place: Path, server: Server, cache: str, out: str, verb: tuple[str, ...] = ("run", "c.yaml")
) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **server.environment, "XDG_CACHE_HOME": str(place / cache)}
    # Two runs train side by side: threads that wait for each other's cores made them many times slower.
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.Popen(
        [sys.executable, "-m", "xalign_dist", *verb, "--out", out],
        cwd=place,
        env=environment,
        stdout=(place / f"{cache}.out").open("ab"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def shown(place: Path) -> str:
    return "".join(p.read_text() for p in sorted(place.glob("*.out")))


def until_uploaded(
    server: Server, run: str, found: str, process: subprocess.Popen[bytes], place: Path
) -> None:
    """Wait for a checkpoint whose path holds ``found``: it counts when ``run``'s index names it."""
    until = time.monotonic() + 900
    index = f"{run}/files.json"
    while not (
        index in server.names(run)
        and any(found in n and "manifest" in n for n in json.loads(server.read(index))["files"])
    ):
        assert process.poll() is None, shown(place)
        assert time.monotonic() < until
        time.sleep(0.2)


def finished(place: Path, process: subprocess.Popen[bytes]) -> None:
    assert process.wait() == 0, shown(place)


def test_killed_run_goes_on_elsewhere_and_ends_as_one_that_was_not(place):
    with Server().running() as server:
        whole = start(place, server, "unused", "local")
        server.every = 10
        first = start(place, server, "here", "s3://runs/kept")
        until_uploaded(server, "kept", "round=2/work/checkpoints", first, place)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        left = json.loads(server.read("kept/manifest.json"))["stages"]
        assert "adaptive: round 1" in left
        assert "adaptive: round 2" not in left, "it was killed too late to tell anything"

        finished(place, start(place, server, "elsewhere", "s3://runs/kept"))
        finished(place, whole)
        assert server.failed > 10
        server.every = 0
        said = (place / "elsewhere.out").read_text()
        assert "skip  clean the corpora" in said
        assert "skip  round 1: score" in said
        assert "skip  round 1: train" in said
        assert "all of it is at s3://runs/kept" in said

        names = {n.removeprefix("kept/") for n in server.names("kept/")}
        for name in ("model/model.safetensors", "metrics.json", "pairs/round=2/parallel/pairs.parquet"):
            assert server.read(f"kept/{name}") == (place / "local" / name).read_bytes(), name
        assert "report.html" in names
        (place / "steps.jsonl").write_bytes(server.read("kept/telemetry/adaptive.jsonl"))
        continued, at_once = (
            [(r["step"], r["loss"]) for r in read_telemetry(p)]
            for p in (place / "steps.jsonl", place / "local" / "telemetry" / "adaptive.jsonl")
        )
        assert continued == at_once
        everything = b"".join(server.read(n) for n in server.names("kept/"))
        assert b"testing-secret" not in everything + shown(place).encode()


def test_a_killed_training_goes_on_elsewhere(place):
    # Without the regulariser no reference is embedded: what is left is the training.
    config = {"encoder": CONFIG["encoder"], "objective": {"regulariser": {"enabled": False}}}
    config |= {"training": CONFIG["training"], "rounds": {"count": 1}, "runtime": CONFIG["runtime"]}
    (place / "train.yaml").write_text(yaml.safe_dump(config))
    verb = ("train", "train.yaml", "--pairs", "pairs.jsonl")
    with Server().running() as server:
        first = start(place, server, "here", "s3://runs/trained", verb)
        until_uploaded(server, "trained", "work/checkpoints", first, place)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        assert not any(n.startswith("trained/model/") for n in server.names("trained")), "killed too late"
        (place / "left.jsonl").write_bytes(server.read("trained/telemetry/adaptive.jsonl"))

        finished(place, start(place, server, "elsewhere", "s3://runs/trained", verb))
        assert "all of it is at s3://runs/trained" in (place / "elsewhere.out").read_text()
        assert "trained/model/model.safetensors" in server.names("trained")
        (place / "all.jsonl").write_bytes(server.read("trained/telemetry/adaptive.jsonl"))
    left, rows = read_telemetry(place / "left.jsonl"), read_telemetry(place / "all.jsonl")
    assert [r["step"] for r in rows] == list(range(1, CONFIG["training"]["steps"] + 1))
    # With their times: the steps up to the first checkpoint were not done again.
    assert rows[:10] == left[:10]
