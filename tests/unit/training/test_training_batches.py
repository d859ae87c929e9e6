"""What a training reads and says of it: padding, language pairs, stages."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_world import tiny_job

from xalign_dist.batches import read_step
from xalign_dist.batches.batch import BatchStream, make_batch
from xalign_dist.config import ObjectiveConfig
from xalign_dist.errors import DataError
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.training import StepRecord, run_training
from xalign_dist.training.encode import CutBatch, cut_batch, plan_chunks
from xalign_dist.training.run import batch_plan, load_trainee

CPU = torch.device("cpu")


@pytest.mark.parametrize("settings", [{}, {"chunk_pairs": 5}, {"bucket_by_length": False}])
def test_padding_share_is_what_the_masks_say(tmp_path: Path, settings: dict[str, object]) -> None:
    job = tiny_job(tmp_path, training=settings)
    batch = make_batch(TrainingSet.open(job.training_set), np.arange(30), 0, 0)
    plan = plan_chunks(batch, load_trainee(job, CPU), job.training, CPU)
    tokens = sum(c.mask.numel() for c in plan.chunks)
    assert plan.padding_share == pytest.approx(1 - sum(int(c.mask.sum()) for c in plan.chunks) / tokens)
    assert sum(len(c.rows_R) for c in plan.chunks) == 60


def test_batches_are_cut_by_the_thread_that_reads_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tiny_job(tmp_path, training={"chunk_pairs": 5})
    encoder, training_set = load_trainee(job, CPU), TrainingSet.open(job.training_set)
    now = plan_chunks(
        read_step(batch_plan(job, training_set), training_set, 2, 0, 1), encoder, job.training, CPU
    )
    cut = partial(cut_batch, encoder=encoder, config=job.training)
    with BatchStream(training_set, batch_plan(job, training_set), 0, 1, 2, 3, prepare=cut) as stream:
        (ahead,) = [plan_chunks(batch, encoder, job.training, CPU) for batch in stream]
    assert ahead.padding_share == now.padding_share
    for one, other in zip(ahead.chunks, now.chunks, strict=True):
        assert all(torch.equal(getattr(one, f), getattr(other, f)) for f in ("ids", "mask", "rows_R"))
    threads: list[str] = []

    def noted(*arguments: Any, **named: Any) -> CutBatch:
        threads.append(threading.current_thread().name)
        return cut_batch(*arguments, **named)

    monkeypatch.setattr("xalign_dist.training.run.cut_batch", noted)
    monkeypatch.setattr("xalign_dist.training.encode.cut_batch", noted)
    run_training(job)
    # The one that is not is the rehearsal, before the first step.
    assert threads.count("xalign-batches") == 8
    assert len(threads) <= 10


def test_homogeneous_batches_hold_one_language_pair_each_and_both_take_turns(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, training={"homogeneous_batches": True})
    training_set = TrainingSet.open(job.training_set)
    groups = []
    with BatchStream(training_set, batch_plan(job, training_set), 0, 1, 0, 10) as stream:
        for batch in stream:
            (group,) = set(training_set.group_N[batch.rows_B].tolist())
            groups.append(training_set.group_names[group])
    assert sorted(groups) == ["deu-eng"] * 5 + ["eng-fra"] * 5
    mixed = tiny_job(tmp_path)
    rows = batch_plan(mixed, training_set).batch(0)
    assert len(set(training_set.group_N[rows].tolist())) == 2
    with pytest.raises(DataError, match=r"language pair deu-eng: the batch is larger than the data"):
        batch_plan(
            tiny_job(tmp_path, training={"homogeneous_batches": True, "batch_pairs": 61}), training_set
        )


def test_the_stages_of_a_training_follow_one_another(tmp_path: Path) -> None:
    settings = ObjectiveConfig.paper().model_dump()
    settings["adversary"] |= {"warmup": 0.25, "ramp": 0.5, "decay_from": 0.75}
    settings["false_negatives"] |= {"warmup": 0.5, "delta": 0.0}
    job = tiny_job(tmp_path, objective=ObjectiveConfig.model_validate(settings))
    records: list[StepRecord] = []
    run_training(job, report=records.append)
    trace = {key: [r.trace[key] for r in records] for key in records[0].trace}
    assert trace["lambda_C"] == [0.0] * 2 + [1.0] * 6
    weights = [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5]
    assert trace["lambda_A"] == pytest.approx([0.02 * w for w in weights])
    # Random texts share no words, so only similarity masks; and that from half of the training on.
    assert trace["masked_share"][:4] == [0.0] * 4
    assert all(share > 0 for share in trace["masked_share"][4:6])
    assert trace["lambda_R"] == pytest.approx([1.3 - a for a in trace["accuracy"]])
