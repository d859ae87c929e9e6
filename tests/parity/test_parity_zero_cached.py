"""Cached gradients on the DeepSpeed engine: ZeRO 0 to 3, encoders and a decoder, dropout, accumulation.

Two ranks whose chunks are uneven and differ in number. With SGD and no clipping, so that a wrong scale
shows; errors are measured against the update.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_world import write_tiny
from torch import Tensor
from training_ranks import run_ranks
from training_world import tiny_job

from xalign_dist.batches.batch import Batch, make_batch
from xalign_dist.config import DeepSpeedConfig, EncoderConfig
from xalign_dist.objective import DynamicObjective, LossOutput
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.training import TorchEngine, TrainJob
from xalign_dist.training.cached import cached_gradient, plain_gradient
from xalign_dist.training.encode import plan_chunks
from xalign_dist.training.engine import Engine
from xalign_dist.training.loop import batch_meta
from xalign_dist.training.run import load_trainee
from xalign_dist.training.seeding import seed_dropout

TOLERANCE = 1e-5
KINDS = ("tiny", "qwen3")
STAGES = (0, 1, 2, 3)
FORMS: dict[str, Any] = {"plain": plain_gradient, "cached": cached_gradient, "other dropout": plain_gradient}
# 13 and 22 pairs on two ranks: 6 and 7, then 11 and 11; chunks of 4 pairs leave an uneven last one.
BATCHES = (13, 22, 13)
#: Batches whose gradients are added up before each update.
UPDATES = ((0,), (1, 2))


def accept(out: LossOutput, gradient_ND: Tensor) -> bool:
    return True


def job_of(home: Path, kind: str, stage: int) -> TrainJob:
    settings = {"chunk_pairs": 4, "optimizer": "sgd", "clip_norm": 1e9, "weight_decay": 0.0}
    job = tiny_job(home, dropout=0.1, training=settings, vocabulary_texts=None)
    model = str(home / kind)
    training = job.training.model_copy(update={"deepspeed": DeepSpeedConfig(zero_stage=stage)})
    encoder = EncoderConfig(model=model)
    return dataclasses.replace(job, model=model, encoder=encoder, training=training)


def batches_of(job: TrainJob, rank: int, world: int, vocabulary: int) -> list[Batch]:
    training_set = TrainingSet.open(job.training_set)
    found, first = [], 0
    for step, size in enumerate(BATCHES):
        shares = np.array_split(np.arange(first, first + size), world)
        rows = shares[rank]
        batch = make_batch(training_set, rows, step, 0)
        # The decoders' vocabularies are other ones: the same lengths, other words.
        sides = ([[i % vocabulary for i in text] for text in s] for s in (batch.src_tokens, batch.tgt_tokens))
        src, tgt = sides
        found.append(dataclasses.replace(batch, src_tokens=src, tgt_tokens=tgt))
        first += size
    return found


def train_form(engine: Engine, job: TrainJob, batches: list[Batch], rank: int, form: str) -> list[float]:
    objective = DynamicObjective(job.objective, engine.encoder.dim, 3)
    losses = []

    def add(batch: Batch, seed: int) -> float:
        plan = plan_chunks(batch, engine.encoder, job.training, engine.device)
        meta = batch_meta(batch, engine.device)

        def loss_of(unit_ND: Tensor) -> LossOutput:
            output: LossOutput = objective(*unit_ND.chunk(2), meta, 0.5)
            return output

        seed_chunk: Callable[[int], None] = partial(seed_dropout, seed, batch.step, rank)
        out, _ = FORMS[form](engine, plan, loss_of, seed_chunk, accept)
        return float(out.trace["loss"])

    for update in UPDATES:
        before = {k: v.clone() for k, v in objective.state_dict().items()}
        add(batches[0], 77)  # what is discarded leaves nothing, in whichever stage
        engine.discard()
        objective.load_state_dict(before)
        losses += [add(batches[n], 6 if form == "other dropout" else 5) for n in update]
        engine.step(0.05)
    return losses


def run_all(rank: int, world: int, home: Path) -> None:
    from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

    results: dict[str, Any] = {}
    for kind in KINDS:
        for stage in (None, *STAGES):
            for form in FORMS if stage is None else ("plain", "cached"):
                job = job_of(home, kind, stage or 0)
                encoder = load_trainee(job, torch.device("cpu"))
                if kind != "tiny":
                    for module in encoder.backbone.modules():
                        if hasattr(module, "attention_dropout"):
                            module.attention_dropout = 0.1
                start = {n: p.detach().clone() for n, p in encoder.named_parameters()}
                vocabulary = encoder.backbone.get_input_embeddings().num_embeddings
                engine = (TorchEngine if stage is None else DeepSpeedEngine)(encoder, job.training)
                losses = train_form(engine, job, batches_of(job, rank, world, vocabulary), rank, form)
                results[f"{kind}/{stage}/{form}"] = (losses, engine.state().parameters, start)
    if rank == 0:
        torch.save(results, home / "results.pt")


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_cached_is_plain_in_every_stage_with_encoders_and_decoders(tmp_path: Path) -> None:
    job_of(tmp_path, "tiny", 0)
    for kind in KINDS[1:]:
        write_tiny(tmp_path, kind)
    run_ranks(2, run_all, tmp_path)
    results = torch.load(tmp_path / "results.pt")
    for kind in KINDS:
        losses, reference, start = results[f"{kind}/None/plain"]
        moved = sum(float((reference[n] - start[n]).square().sum()) for n in reference)
        assert moved > 0
        errors = {}
        for name in [name for name in results if name.startswith(f"{kind}/")]:
            found, weights, _ = results[name]
            wrong = sum(float((weights[n] - reference[n]).square().sum()) for n in reference)
            errors[name] = (wrong / moved) ** 0.5
            if "other" not in name:
                assert found == pytest.approx(losses, rel=TOLERANCE), name
        # Other masks are far outside of the tolerance, so that it sees them replayed.
        assert errors.pop(f"{kind}/None/other dropout") > 1000 * TOLERANCE
        assert len(errors) == 10
        assert max(errors.values()) < TOLERANCE, errors
