"""Whole jobs on a tiny model: learning, resuming, rounds, faults."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_world import pairs, tiny_job, write_set

from xalign_dist.config import ObjectiveConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.errors import ConfigError, DataError, ModelError, TrainingError
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.training import StepRecord, TorchEngine, TrainJob, run_training
from xalign_dist.training.checkpoint import Checkpoints
from xalign_dist.training.telemetry import read_telemetry


def losses(job: TrainJob) -> list[float]:
    file = Path(job.telemetry or f"{job.work}/telemetry.jsonl")
    return [r["loss"] for r in read_telemetry(file)]


def final_weights(job: TrainJob) -> dict[str, torch.Tensor]:
    return dict(load_encoder(job.out, device="cpu").state_dict())


def assert_same_run(one: TrainJob, two: TrainJob) -> None:
    assert losses(one) == losses(two)
    a, b = final_weights(one), final_weights(two)
    assert all(torch.equal(a[k], b[k]) for k in a)


def named(job: TrainJob, name: str, **changes: Any) -> TrainJob:
    home = Path(job.work).parent
    return dataclasses.replace(job, work=str(home / f"{name}.work"), out=str(home / f"{name}.out"), **changes)


def test_training_aligns_the_languages_and_reports_every_step(tmp_path: Path) -> None:
    training = {"batch_pairs": 24, "learning_rate": 2e-2}
    job = tiny_job(tmp_path, stop_step=60, total_steps=60, training=training)
    records: list[StepRecord] = []
    result = run_training(job, report=records.append)
    assert [r.step for r in records] == list(range(1, 61))
    # The tiny world's reference vectors are random, so that its structure term does not fall.
    contrastive = [r.trace["contrastive"] for r in records]
    assert np.mean(contrastive[-5:]) < 0.5 * np.mean(contrastive[:5])
    assert records[-1].trace["accuracy"] > 0.8 > 0.3 > records[0].trace["accuracy"]
    assert result.final_loss == records[-1].loss
    assert (result.steps, result.model_path) == (60, job.out)
    written = read_telemetry(Path(job.work) / "telemetry.jsonl")
    assert written == [r.to_json() for r in records]
    assert {"tau", "lambda_R", "uniformity", "padding_share", "pairs_per_second", "lr"} <= set(written[0])
    table = pairs()
    encoder = load_encoder(job.out, device="cpu")
    with torch.no_grad():
        sides = (encoder.tokenize(table[side].to_pylist()[:40]) for side in ("src", "tgt"))
        src, tgt = (encoder(*encoder.collate(tokens)) for tokens in sides)
    assert (src @ tgt.T).argmax(1).eq(torch.arange(40)).float().mean() > 0.9


def test_length_buckets_pad_less_and_change_only_dropout(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, dropout=0.0, stop_step=3, total_steps=3)
    flat = named(job, "flat", training=job.training.model_copy(update={"bucket_by_length": False}))
    small = named(job, "small", training=job.training.model_copy(update={"chunk_pairs": 3}))
    seen: dict[str, list[StepRecord]] = {"flat": [], "small": []}
    run_training(flat, report=seen["flat"].append)
    run_training(small, report=seen["small"].append)
    assert losses(small) == pytest.approx(losses(flat), rel=1e-5)
    assert seen["small"][0].padding_share < 0.5 * seen["flat"][0].padding_share


def test_stopped_run_continues_with_the_same_curve(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    run_training(job)

    class Stop(Exception):
        pass

    def stop(record: StepRecord) -> None:
        if record.step == 5:
            raise Stop

    again = named(job, "again")
    with pytest.raises(Stop):
        run_training(again, report=stop)
    assert not Path(again.out).exists()
    steps: list[int] = []
    run_training(again, report=lambda r: steps.append(r.step))
    assert steps == [4, 5, 6, 7, 8]
    assert_same_run(job, again)
    # Once more: nothing is left to do, and the model stands.
    result = run_training(again)
    assert (result.final_loss, result.pairs_per_second) == (losses(job)[-1], 0.0)


def test_rounds_make_one_schedule(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    run_training(job)
    telemetry = str(tmp_path / "telemetry" / "arm.jsonl")
    first = named(job, "first", stop_step=5, telemetry=telemetry)
    result = run_training(first)
    for number, init in enumerate((result.checkpoint, first.work)):
        second = named(job, f"second{number}", start_step=5, init_checkpoint=init, telemetry=telemetry)
        run_training(second)
        assert_same_run(job, second)


def test_a_new_language_in_a_later_round_keeps_what_the_discriminator_knows(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    first = named(job, "first", stop_step=4)
    run_training(first)
    meta = (tmp_path / "set" / "meta.json").read_text()
    more = tmp_path / "more"
    write_set(more, job.model)
    (more / "meta.json").write_text(meta.replace('"deu"', '"cym", "deu"', 1))
    for name in ("src_lang", "tgt_lang"):
        np.save(more / f"{name}.npy", np.load(more / f"{name}.npy") + 1)
    assert TrainingSet.open(str(more)).languages == ["cym", "deu", "eng", "fra"]
    second = named(
        job, "second", training_set=str(more), start_step=4, stop_step=5, init_checkpoint=first.work
    )
    run_training(second)
    old, new = (Checkpoints.load(j.work).tensors["objective"] for j in (first, second))
    name = "adversary.output.weight"
    assert (new[name].shape, old[name].shape) == ((4, 64), (3, 64))
    # One step of AdamW moves a weight by its rate, 1e-3 at most.
    torch.testing.assert_close(new[name][1:], old[name], atol=2e-3, rtol=0)


class Poisoned(TorchEngine):
    """An engine whose embeddings are not finite at one step."""

    calls = 0

    def encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        Poisoned.calls += 1
        unit = super().encode(ids, mask)
        return unit * float("nan") if Poisoned.calls == 3 else unit


@pytest.mark.parametrize("chunk", [None, 6])
def test_non_finite_loss_stops_or_is_skipped_by_config(
    tmp_path: Path, chunk: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    job = tiny_job(tmp_path, training={"chunk_pairs": chunk})
    # A step, and the dry run before the first one, is one call; with cached gradients three, for two chunks.
    first = -1 if chunk is None else -7
    Poisoned.calls = first
    with pytest.raises(TrainingError, match=r"(?s)step 3: loss nan .* \(training rows \d+, .*=skip"):
        run_training(job, Poisoned)
    Poisoned.calls = first
    skip = named(job, "skip", training=job.training.model_copy(update={"non_finite": "skip"}))
    records: list[StepRecord] = []
    run_training(skip, Poisoned, report=records.append)
    assert sum(r.skipped for r in records) == 1
    assert "step skipped" in caplog.text
    assert all(np.isfinite(r.loss) and np.isfinite(r.trace["tau"]) for r in records if not r.skipped)
    assert all(torch.isfinite(v).all() for v in final_weights(skip).values())


def test_faults_are_named(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    with pytest.raises(ConfigError, match="no stretch"):
        run_training(dataclasses.replace(job, start_step=8))
    with pytest.raises(DataError, match="vocabulary texts not readable"):
        run_training(dataclasses.replace(job, vocabulary_texts=str(tmp_path / "none.txt")))
    write_set(tmp_path / "bare", job.model, references=False)
    with pytest.raises(ConfigError, match="no reference vectors"):
        run_training(dataclasses.replace(job, training_set=str(tmp_path / "bare")))
    plain = named(job, "plain", training_set=str(tmp_path / "bare"), objective=ObjectiveConfig.infonce())
    run_training(plain)
    (tmp_path / "few.txt").write_text("e1 e2 f1")
    with pytest.raises(ModelError, match=r"word_embeddings\.weight has shape"):
        run_training(dataclasses.replace(plain, vocabulary_texts=str(tmp_path / "few.txt")))
    with pytest.raises(ConfigError, match="is of step 8, but the job starts at 3"):
        run_training(named(job, "late", start_step=3, init_checkpoint=plain.work))


KILLED = """
import pickle, sys, time
sys.path[:0] = {paths!r}
from training_world import tiny_job
from pathlib import Path
from xalign_dist.training import run_training
job = tiny_job(Path({home!r}), work={work!r}, out={out!r})
run_training(job, report=lambda r: (print(r.step, flush=True), time.sleep(0.2)))
"""


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


def test_sigkill_then_the_same_command_gives_the_same_curve(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    run_training(job)
    killed = named(job, "killed")
    script = KILLED.format(
        paths=[str(Path(__file__).parents[2])], home=str(tmp_path), work=killed.work, out=killed.out
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for line in lines_of(process):
        if line.strip() == "5":
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert Checkpoints(f"{killed.work}/checkpoints", 1).steps() == [3]
    began = time.monotonic()
    steps: list[int] = []
    run_training(killed, report=lambda r: steps.append(r.step))
    assert steps == [4, 5, 6, 7, 8], time.monotonic() - began
    assert_same_run(job, killed)
