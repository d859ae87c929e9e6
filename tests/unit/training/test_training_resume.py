"""Stopping and going on: checkpoints written beside the steps, what a kill leaves behind, SIGTERM."""

from __future__ import annotations

import copy
import dataclasses
import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from training_world import tiny_job

from xalign_dist.config import RuntimeConfig
from xalign_dist.encoder import load_encoder
from xalign_dist.errors import OutputError, Preempted
from xalign_dist.runtime.train import train
from xalign_dist.training import StepRecord, TrainJob, run_training
from xalign_dist.training.checkpoint import Checkpoint, Checkpoints
from xalign_dist.training.notice import Notice, Terminated
from xalign_dist.training.telemetry import read_telemetry
from xalign_dist.training.writer import CheckpointWriter


def losses(job: TrainJob) -> list[float]:
    return [r["loss"] for r in read_telemetry(Path(job.work) / "telemetry.jsonl")]


def same_weights(one: TrainJob, two: TrainJob) -> bool:
    a, b = (load_encoder(job.out, device="cpu").state_dict() for job in (one, two))
    return all(torch.equal(a[name], b[name]) for name in a)


def small(step: int) -> Checkpoint:
    return Checkpoint(step, {"encoder": {"w": torch.full((3,), float(step))}}, {"loss": 0.5})


class Slow(MemoryFileSystem):
    """An object store whose checkpoints' uploads wait until they are let through."""

    protocol = "slowmemory"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    free = threading.Event()

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        if "step=" in rpath and not self.free.wait(timeout=60):
            raise TimeoutError("nobody let the upload through")
        super().put_file(lpath, rpath, *args, **kwargs)


class Flaky(MemoryFileSystem):
    """An object store of which the next downloads fail."""

    protocol = "flakymemory"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failing = 0

    def get_file(self, rpath: str, lpath: str, *args: Any, **kwargs: Any) -> None:
        if Flaky.failing > 0:
            Flaky.failing -= 1
            raise OSError(5, "Input/output error")
        super().get_file(rpath, lpath, *args, **kwargs)


@pytest.fixture
def flaky() -> str:
    fsspec.register_implementation("flakymemory", Flaky, clobber=True)
    Flaky.failing = 0
    Flaky.store.clear()
    return "flakymemory://runs/work"


@pytest.fixture
def slow() -> str:
    fsspec.register_implementation("slowmemory", Slow, clobber=True)
    Slow.free.clear()
    Slow.store.clear()
    return "slowmemory://runs/work"


def test_what_is_written_beside_the_steps_is_not_changed_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, held = [], []

    def keep(self: CheckpointWriter, checkpoint: Checkpoint) -> None:
        written.append(checkpoint)
        held.append(copy.deepcopy(checkpoint.tensors))

    monkeypatch.setattr(CheckpointWriter, "save", keep)
    run_training(tiny_job(tmp_path))
    assert len(written) > 1
    for part, tensors in held[0].items():
        now, last = written[0].tensors[part], written[-1].tensors[part]
        assert tensors, part
        assert any(not torch.equal(now[name], last[name]) for name in tensors), part
        for name, value in tensors.items():
            torch.testing.assert_close(now[name], value, rtol=0, atol=0, msg=f"{part}.{name}")


def test_steps_go_on_while_a_checkpoint_is_uploaded(tmp_path: Path, slow: str) -> None:
    job = tiny_job(tmp_path, work=slow, telemetry=str(tmp_path / "t.jsonl"))
    uploaded: list[list[int]] = []

    def report(record: StepRecord) -> None:
        uploaded.append(Checkpoints(f"{slow}/checkpoints", 1).steps())
        if record.step == 5:  # the checkpoint of step 3 has not arrived, and nobody waited for it
            Slow.free.set()

    run_training(job, report=report)
    assert uploaded[:5] == [[]] * 5
    assert Checkpoints(f"{slow}/checkpoints", 2).steps() == [6, 8]
    newest = Checkpoints.load(slow)
    assert newest.step == 8


def test_one_checkpoint_at_a_time_and_a_fault_is_raised(slow: str, tmp_path: Path) -> None:
    store = Checkpoints(f"{slow}/checkpoints", 5)
    with CheckpointWriter(store) as writer:
        writer.save(small(1))
        assert store.steps() == []
        later = threading.Thread(target=writer.save, args=(small(2),))
        later.start()
        later.join(0.2)
        assert later.is_alive()
        Slow.free.set()
        later.join()
    assert store.steps() == [1, 2]
    (tmp_path / "file").write_text("in the way")
    blocked = Checkpoints(str(tmp_path / "file"), 1)
    with pytest.raises(OutputError, match="checkpoint not written"), CheckpointWriter(blocked) as writer:
        writer.save(small(1))
    writer = CheckpointWriter(blocked)
    writer.save(small(1))
    with pytest.raises(OutputError, match="checkpoint not written"):
        writer.save(small(2))
    writer.wait()  # said once


def test_a_fault_of_the_training_is_not_hidden_behind_one_of_the_storage(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("in the way")
    store = Checkpoints(str(tmp_path / "work"), 1)

    def fail() -> None:
        with CheckpointWriter(store) as writer:
            writer.save(small(1))
            raise KeyError("the training's")

    with pytest.raises(KeyError, match="the training's"):
        fail()


def test_a_damaged_newer_checkpoint_does_not_push_out_a_good_one(tmp_path: Path) -> None:
    store = Checkpoints(str(tmp_path), keep=1)
    (Path(store.save(small(20))) / "encoder.safetensors").unlink()
    store.save(small(15))
    assert store.steps() == [15]
    newest = store.newest()
    assert newest is not None
    assert newest.step == 15


def test_a_fault_of_the_storage_that_passes_costs_no_checkpoint(flaky: str) -> None:
    store = Checkpoints(f"{flaky}/checkpoints", keep=2)
    for step in (10, 20):
        store.save(small(step))
    Flaky.failing = 2
    newest = store.newest()
    assert newest is not None
    assert newest.step == 20


def test_a_fault_of_the_storage_that_stays_ends_the_run_and_removes_nothing(
    tmp_path: Path, flaky: str
) -> None:
    job = tiny_job(tmp_path, work=flaky, telemetry=str(tmp_path / "t.jsonl"))
    run_training(job)
    Flaky.failing = 1000
    steps: list[int] = []
    with pytest.raises(OutputError, match=r"(?s)step=00000008: checkpoint not readable .*same command"):
        run_training(job, report=lambda r: steps.append(r.step))
    assert steps == []
    with pytest.raises(OutputError, match="not readable"):
        Checkpoints.load(Checkpoints(f"{flaky}/checkpoints", 2).path(6))
    Flaky.failing = 0
    assert Checkpoints(f"{flaky}/checkpoints", 2).steps() == [6, 8]


def test_what_a_killed_writer_left_goes_with_the_next_start(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    left = Path(job.work) / "checkpoints" / ".writing-abc"
    left.mkdir(parents=True)
    (left / "encoder.safetensors").write_bytes(b"0" * 1000)
    run_training(job)
    assert sorted(p.name for p in left.parent.iterdir()) == ["step=00000006", "step=00000008"]


def test_notice_to_save_saves_once_and_goes_on(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, training={"keep_checkpoints": 9})
    answers = iter([Notice.NONE, Notice.SAVE, *[Notice.NONE] * 6])
    run_training(job, notice=lambda: next(answers))
    assert Checkpoints(f"{job.work}/checkpoints", 9).steps() == [2, 3, 6, 8]


def test_notice_to_stop_stops_with_a_checkpoint_and_the_same_command_continues(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    run_training(job)
    again = dataclasses.replace(job, work=str(tmp_path / "again"), out=str(tmp_path / "again.out"))
    answers = iter([Notice.NONE] * 4 + [Notice.STOP])
    with pytest.raises(Preempted, match=r"after step 5 of 8.*step=00000005(?s:.*)same command") as caught:
        run_training(again, notice=lambda: next(answers))
    assert caught.value.exit_code == 143
    assert not Path(again.out).exists()
    steps: list[int] = []
    run_training(again, report=lambda r: steps.append(r.step))
    assert steps == [6, 7, 8]
    assert losses(again) == losses(job)
    assert same_weights(again, job)
    # A notice after the last step stops nothing.
    done = dataclasses.replace(job, work=str(tmp_path / "done"), out=str(tmp_path / "done.out"))
    answers = iter([Notice.NONE] * 7 + [Notice.STOP])
    assert run_training(done, notice=lambda: next(answers)).steps == 8


def test_sigterm_is_heard_and_the_handler_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Terminated() as notice:
        assert notice() is Notice.NONE
        signal.raise_signal(signal.SIGTERM)
        assert notice() is Notice.STOP
        heard: list[Notice] = []

        def elsewhere() -> None:  # where Python has no handlers
            with Terminated() as other:
                heard.append(other())

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert heard == [Notice.NONE]
    assert signal.getsignal(signal.SIGTERM) is before


STOPPED = """
import sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
from training_world import tiny_job
from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import Preempted
from xalign_dist.runtime.train import train
job = tiny_job(Path({home!r}), work={work!r}, out={out!r})
def on_step(record):
    print(record["step"], flush=True)
    time.sleep(0.2)
try:
    train(job, RuntimeConfig(train_workers=0), "unused", on_step)
except Preempted as err:
    print(err.remedy, flush=True)
    sys.exit(err.exit_code)
"""


def test_sigterm_to_the_command_then_the_same_command(tmp_path: Path, caplog: Any) -> None:
    job = tiny_job(tmp_path)
    run_training(job)
    stopped = dataclasses.replace(job, work=str(tmp_path / "stopped"), out=str(tmp_path / "stopped.out"))
    paths = [str(Path(__file__).parents[2])]
    script = STOPPED.format(paths=paths, home=str(tmp_path), work=stopped.work, out=stopped.out)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line.strip())
        if line.strip() == "4":
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert said[-1] == "run the same command to continue"
    assert said[-2] in ("4", "5")
    steps: list[int] = []
    with caplog.at_level(logging.INFO):
        train(stopped, RuntimeConfig(train_workers=0), "unused", lambda r: steps.append(r["step"]))
    assert "memory per worker about" in caplog.text
    assert steps == list(range(int(said[-2]) + 1, 9))
    assert losses(stopped) == losses(job)
    assert same_weights(stopped, job)
