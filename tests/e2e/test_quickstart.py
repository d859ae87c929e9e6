"""`xalign quickstart`, small: killed in the middle, continued, finished, and skipped the third time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.faults

SETTINGS = [
    "encoder.model=builtin:e5-small?layers=1",
    "scoring.reference=builtin:e5-small?layers=2",
    "mining.view_layer=-2",
    "training.steps=6",
    "training.batch_pairs=16",
    "evaluation.baselines=[initial,infonce,static,ppmi]",
    "evaluation.bootstrap=100",
    "evaluation.permutations=100",
    "evaluation.projection_points=60",
]
STAGES = ["clean", "round 1: score", "round 1: mine", "adaptive: round 1", "infonce: round 1", "evaluate"]


def command(out: Path) -> list[str]:
    return [sys.executable, "-m", "xalign_dist", "quickstart", "--out", str(out), *SETTINGS]


def stages(out: Path) -> dict[str, dict]:
    path = out / "manifest.json"
    return json.loads(path.read_text())["stages"] if path.exists() else {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict, str]:
    """(run directory, stages done when it was killed, output of the run that finished)."""
    out = tmp_path_factory.mktemp("quickstart") / "run"
    log = out.parent / "first.log"
    with log.open("w") as stream:
        first = subprocess.Popen(command(out), stdout=stream, stderr=subprocess.STDOUT)
        until = time.time() + 240
        while "round 1: mine" not in stages(out) and time.time() < until:
            assert first.poll() is None, log.read_text()
            time.sleep(0.2)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    before = stages(out)
    assert "evaluate" not in before
    second = subprocess.run(command(out), capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stdout + second.stderr
    return out, before, second.stdout


@pytest.mark.timeout(1200)
def test_killed_run_continues_where_it_was(finished):
    out, before, shown = finished
    after = stages(out)
    assert set(STAGES) <= set(after)
    assert {name: after[name] for name in before} == before, "a finished stage was done again"
    assert "skip  clean the corpora" in shown


def test_results_are_where_they_should_be(finished):
    out, _, shown = finished
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    models = {m["model"] for m in metrics}
    assert {"initial", "infonce", "adaptive", "static", "ppmi"} <= models
    tasks = {(m["task"], m["metric"]) for m in metrics}
    assert {
        ("retrieval", "accuracy"),
        ("pooled_retrieval", "accuracy"),
        ("lexicon", "p@1"),
        ("similarity", "gap"),
        ("audit", "noise_estimated"),
        ("audit", "noise_true"),
        ("mining", "precision"),
        ("mining", "predicted_precision"),
    } <= tasks
    audit = json.loads((out / "pairs" / "round=1" / "audit.json").read_text())["entries"]
    assert {e["source"] for e in audit} == {"gettext", "mined"}
    report = (out / "report.html").read_text("utf-8")
    assert report.startswith("<!doctype html>") or report.startswith("<!DOCTYPE html>")
    assert "http://" not in report.replace("http://www.w3.org", "")
    for word in ("SentenceTransformer", "report.html", "retrieval"):
        assert word.lower() in shown.lower()


def test_estimates_hold_against_the_hidden_truth(finished):
    """Even two layers of the reference know that a fifth of the pairs is wrong, and which are mined right."""
    out, _, _ = finished
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    rows = {
        (m["metric"], m["tgt_lang"]): m["value"] for m in metrics if m["task"] == "audit" and m["round"] == 1
    }
    errors = [
        abs(value - rows["noise_true", lang])
        for (name, lang), value in rows.items()
        if name == "noise_estimated"
    ]
    assert len(errors) == 6
    assert np.mean(errors) < 0.08


def test_model_gives_the_same_embeddings_everywhere(finished):
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    from xalign_dist.encoder import embed_texts, load_encoder

    path = str(finished[0] / "model")
    texts = [
        "The password is too short.",
        "Das Passwort ist zu kurz.",
        "un texte que personne n'a vu: žluťoučký",
    ]
    ours = embed_texts(load_encoder(path), texts, precision="fp32")
    theirs = SentenceTransformer(path, device="cpu").encode(texts)
    assert ((ours * theirs).sum(1) > 0.9999).all()
    batch = AutoTokenizer.from_pretrained(path)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(path)(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    mean = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    assert ((ours * mean).sum(1) > 0.9999).all()


def test_held_out_text_was_not_trained_on(finished):
    out, _, _ = finished
    test = pq.read_table(out / "data" / "test_pairs.parquet")
    held_out = set(test["src"].to_pylist()) | set(test["tgt"].to_pylist())
    for path in out.glob("arms/*/*/training_pairs.parquet"):
        table = pq.read_table(path)
        assert table.num_rows > 100
        assert not held_out & (set(table["src"].to_pylist()) | set(table["tgt"].to_pylist()))


def test_third_run_skips_everything(finished):
    out, _, _ = finished
    before = stages(out)
    third = subprocess.run(command(out), capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stdout + third.stderr
    assert stages(out) == before
    assert "train on" in third.stdout
    assert not [
        x for x in third.stdout.splitlines() if x.startswith("done") and ("train" in x or "embed" in x)
    ]
