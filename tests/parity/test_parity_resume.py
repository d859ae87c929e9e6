"""Killed on 2 ranks, continued on 1, killed, continued on 3: the curve, and every pair once an epoch."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor
from training_ranks import run_ranks
from training_world import pairs, tiny_job

from xalign_dist.config import DeepSpeedConfig
from xalign_dist.encoder import Encoder, load_encoder
from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine
from xalign_dist.training import StepRecord, TorchEngine, TrainJob, run_training
from xalign_dist.training.run import load_trainee
from xalign_dist.training.telemetry import read_telemetry

STAGES = (0, 1, 2, 3)
# An epoch is 8 steps of 15 pairs, which neither 2 nor 3 chunks share evenly.
TRAINING = {"batch_pairs": 15, "chunk_pairs": 4, "checkpoint_every": 3, "learning_rate": 1e-3}
#: World size, and the step after which it is killed (None: it ends).
PHASES: tuple[tuple[int, int | None], ...] = ((2, 5), (1, 11), (3, None))


def job_of(home: Path, name: str, stage: int = 0) -> TrainJob:
    job = tiny_job(home, dropout=0.0, stop_step=16, total_steps=16, training=TRAINING)
    training = job.training.model_copy(update={"deepspeed": DeepSpeedConfig(zero_stage=stage)})
    work, out = str(home / name), str(home / f"{name}.out")
    return dataclasses.replace(job, work=work, out=out, training=training)


class Recorder:
    """Builds engines that note which texts they encode, a line in a file for every finished step."""

    def __init__(self, kind: Any, file: Path) -> None:
        self.texts: set[tuple[int, ...]] = set()
        self.file = file
        texts = self.texts

        class Recording(kind):  # type: ignore[misc]
            def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
                texts.update(tuple(row[keep.bool()].tolist()) for row, keep in zip(ids, mask, strict=True))
                unit_RD: Tensor = super().encode(ids, mask)
                return unit_RD

            def discard(self) -> None:
                texts.clear()
                super().discard()

        self.engine = Recording

    def report(self, record: StepRecord) -> None:
        with self.file.open("a") as lines:
            lines.write(json.dumps([record.step, sorted(self.texts)]) + "\n")
        self.texts.clear()


class Stop(Exception):
    pass


def run_phase(rank: int, world: int, home: Path, phase: int) -> None:
    stop = PHASES[phase][1]
    for stage in STAGES:
        job = job_of(home, f"zero{stage}", stage)
        seen = Recorder(DeepSpeedEngine, home / f"zero{stage}.{phase}.{rank}.jsonl")

        def report(record: StepRecord, stage: int = stage, job: TrainJob = job, seen: Any = seen) -> None:
            seen.report(record)
            if record.step == stop:
                last = Path(job.work) / "checkpoints" / f"step={stop // 3 * 3:08d}"
                while rank == 0 and not last.exists():
                    time.sleep(0.05)
                if stage == STAGES[-1]:
                    torch.distributed.barrier()
                    os.kill(os.getpid(), signal.SIGKILL)
                raise Stop

        try:
            run_training(job, seen.engine, report, rank, world)
        except Stop:
            continue


def reads(home: Path, stage: int) -> dict[int, Counter[tuple[int, ...]]]:
    """Texts of each step, from the last phase that made it, all ranks together."""
    found: dict[int, Counter[tuple[int, ...]]] = {}
    for phase, (world, _) in enumerate(PHASES):
        steps: dict[int, Counter[tuple[int, ...]]] = {}
        for rank in range(world):
            for line in (home / f"zero{stage}.{phase}.{rank}.jsonl").read_text().splitlines():
                step, texts = json.loads(line)
                steps.setdefault(step, Counter()).update(tuple(t) for t in texts)
        for step, texts in steps.items():
            assert found.setdefault(step, texts) == texts, f"step {step} is another one in phase {phase}"
    return found


def tokens(encoder: Encoder) -> list[tuple[int, ...]]:
    table = pairs()
    return [tuple(t) for side in ("src", "tgt") for t in encoder.tokenize(table[side].to_pylist())]


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_two_ranks_then_one_then_three(tmp_path: Path) -> None:
    reference = job_of(tmp_path, "reference")
    run_training(reference, TorchEngine)
    for phase, (world, stop) in enumerate(PHASES):
        if stop is None:
            run_ranks(world, run_phase, tmp_path, phase)
        else:
            with pytest.raises(mp.ProcessExitedException, match="SIGKILL"):
                run_ranks(world, run_phase, tmp_path, phase)
    expected = Counter(tokens(load_trainee(reference, torch.device("cpu"))))
    assert len(expected) == 240
    wanted = [r["loss"] for r in read_telemetry(Path(reference.work) / "telemetry.jsonl")]
    weights = load_encoder(reference.out, device="cpu").state_dict()
    start = load_encoder(reference.model, device="cpu").state_dict()
    for stage in STAGES:
        job = job_of(tmp_path, f"zero{stage}", stage)
        records = read_telemetry(Path(job.work) / "telemetry.jsonl")
        assert [r["step"] for r in records] == list(range(1, 17))
        assert [r["loss"] for r in records] == pytest.approx(wanted, rel=1e-4), stage
        found = reads(tmp_path, stage)
        for epoch in (range(1, 9), range(9, 17)):
            assert sum((found[step] for step in epoch), Counter()) == expected, (stage, epoch)
        # With AdamW: without its moments, or with wrong ones, the weights end elsewhere.
        ended = load_encoder(job.out, device="cpu").state_dict()
        wrong = sum(float((ended[n] - weights[n]).square().sum()) for n in weights)
        moved = sum(float((start[n] - weights[n]).square().sum()) for n in weights)
        assert (wrong / moved) ** 0.5 < 1e-2, stage
