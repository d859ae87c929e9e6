"""`xalign sweep` from a config and a space to the report, on real text with tiny settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import django
import pytest
import yaml

from xalign_dist import cli
from xalign_dist.config import CorpusConfig, RuntimeConfig, load_config
from xalign_dist.corpora.read import read_corpus
from xalign_dist.runtime.session import ray_session

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

LAYER = "builtin:e5-small?layers=1"
CONFIG = {
    "corpora": [{"path": "pairs.jsonl", "source": "tiny"}],
    "encoder": {"model": LAYER},
    "scoring": {"reference": LAYER},
    "mining": {"second_view": "none"},
    # At such a rate the default forgets what it knew: it cannot win, and the winner meets it on the test set.
    "training": {"steps": 4, "batch_pairs": 16, "learning_rate": 0.03},
    "rounds": {"count": 1},
    "objective": {"temperature": {"enabled": True}},
    "evaluation": {"bootstrap": 100, "permutations": 100},
    "runtime": {"train_workers": 0},
}
RATE, TAU = "training.learning_rate", "objective.temperature.start"
SPACE = {
    "finalists": 1,
    "seeds": 2,
    "parameters": {RATE: {"grid": [0.00001, 0.001]}, TAU: {"grid": [0.05, 0.1]}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("sweep")
    path = Path(django.__file__).parent / "contrib" / "admin" / "locale" / "de" / "LC_MESSAGES" / "django.po"
    rows: dict[str, str] = {}
    for chunk in read_corpus(CorpusConfig(path=str(path), src_lang="en", tgt_lang="de")):
        for src, tgt in zip(chunk.kept["src"].to_pylist(), chunk.kept["tgt"].to_pylist(), strict=True):
            if "\n" not in src + tgt:
                rows.setdefault(src, tgt)
    lines = [{"src": s, "tgt": t, "src_lang": "en", "tgt_lang": "de"} for s, t in rows.items()]
    (home / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines), "utf-8")
    (home / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    (home / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return home


@pytest.fixture
def xalign(place, capsys, monkeypatch):
    def call(*arguments: str) -> str:
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "argv", ["xalign", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = capsys.readouterr()
        assert not end.value.code, shown.out + shown.err
        return shown.out

    return call


def test_sweep_to_best_config_and_report(xalign, place):
    command = (
        "sweep",
        "c.yaml",
        "space.yaml",
        "--out",
        "found",
        "--max-concurrent",
        "2",
        "--budget",
        "9cpuh",
    )
    with ray_session(RuntimeConfig(), str(place / "ray.log")):
        xalign(*command)
        found = json.loads((place / "found" / "trials.json").read_text())
        assert len(found["trials"]) == 4
        assert all(t["ended"] and t["value"] is not None for t in found["trials"])
        best = load_config(place / "found" / "best.yaml")
        assert best.corpora, "`xalign run best.yaml` has to have something to read"
        default, *others = sorted(found["finalists"], key=lambda f: f["name"] != "default")
        assert [len(f["values"]) for f in (default, *others)] == [2, 2]
        winner = found["finalists"][0]
        assert winner is not default
        assert winner["mean"] > default["mean"]
        assert {RATE: best.training.learning_rate, TAU: best.objective.temperature.start} == winner[
            "parameters"
        ]
        assert any("On the test set" in s for s in found["statement"])
        runs = list((place / "found" / "runs").iterdir())
        assert len(runs) == 4 + 1 + 2  # four trials, the finalist's second seed, the default's two
        for run in runs:
            _assert_nothing_was_made_twice(place / "found", run)
        html = (place / "found" / "report.html").read_text("utf-8")
        assert html.count("<circle") == 8
        assert 'class="heat"' in html

        told = [*(place / "found" / "records").glob("*.json"), place / "found" / "test.json"]
        before = {p: p.stat().st_mtime_ns for p in told}
        xalign(*command)
        assert {p: p.stat().st_mtime_ns for p in told} == before, "everything was there already"
        # What was measured of another winner does not count.
        test = place / "found" / "test.json"
        said = test.read_text()
        folders = {**json.loads(said)["folders"], "best": ["another"]}
        test.write_text(json.dumps({**json.loads(said), "folders": folders, "comparisons": []}))
        xalign(*command)
        assert test.read_text() == said
        xalign("run", "found/best.yaml", "--out", "best")
        assert (place / "best" / "report.html").exists()
    (place / "found" / "report.html").unlink()
    assert "report.html" in xalign("sweep", "--report", "--out", "found")
    assert (place / "found" / "report.html").read_text("utf-8") == html


def _assert_nothing_was_made_twice(out: Path, run: Path) -> None:
    """Cleaned, embedded and scored once: what a manifest says of these was not a trial's own work.

    A seed holds out other pairs, so that under each the rest is embedded and scored, once for all its trials.
    """
    seed = load_config(run / "config.yaml").seed
    base, shared, stages = (
        json.loads((home / "manifest.json").read_text())["stages"]
        for home in (out / "base", out / (f"base-seed={seed}" if seed else "base"), run)
    )
    once = {"clean", "embed with the reference encoder", "round 1: score"}
    assert set(shared) == once
    assert {name: stages[name] for name in once} == shared
    assert shared["clean"] == base["clean"]


def _sweep(place: Path, *more: str) -> subprocess.Popen[bytes]:
    """In a process of its own, without finalists: those are the other test's."""
    command = ["sweep", "c.yaml", "short.yaml", "--out", "killed", "--max-concurrent", "2", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "xalign_dist", *command],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=(place / "sweep.log").open("ab"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _ended(place: Path) -> dict[str, int]:
    """Records of trials that ended, and when each was written."""
    records = (place / "killed" / "records").glob("*.json")
    return {p.name: p.stat().st_mtime_ns for p in records if json.loads(p.read_text())["final"] is not None}


def test_a_killed_driver_and_a_spent_budget_lose_no_finished_trial(place):
    (place / "short.yaml").write_text(yaml.safe_dump({**SPACE, "finalists": 0}))
    log = place / "sweep.log"
    first = _sweep(place, "--budget", "9cpuh")
    deadline = time.monotonic() + 400
    while not _ended(place):
        assert first.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    time.sleep(3)  # its workers may write a last record
    ended = _ended(place)
    assert 1 <= len(ended) < 4

    # Less than was spent already: nothing is started, and what there is can be used.
    poor = _sweep(place, "--budget", "0.0001cpuh")
    assert poor.wait(timeout=300) == 0, log.read_text()[-2000:]
    found = json.loads((place / "killed" / "trials.json").read_text())
    assert found["ended_by"] == "budget"
    assert sum(t["ended"] for t in found["trials"]) == len(ended)
    said = " ".join(found["statement"])
    assert f"The budget of 0.0001cpuh ended the sweep; {4 - len(ended)} of 4 trials did not end." in said
    assert load_config(place / "killed" / "best.yaml").corpora
    assert _ended(place) == ended

    rich = _sweep(place, "--budget", "9cpuh")
    assert rich.wait(timeout=400) == 0, log.read_text()[-2000:]
    found = json.loads((place / "killed" / "trials.json").read_text())
    assert [t["ended"] for t in found["trials"]] == [True] * 4
    assert found["ended_by"] == ""
    assert ended.items() <= _ended(place).items(), "a finished trial ran again"
