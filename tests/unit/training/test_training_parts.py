"""Schedule, precision, chunks, checkpoints and telemetry on their own."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from xalign_dist.config import TrainingConfig
from xalign_dist.encoder.precision import autocast_dtype
from xalign_dist.errors import ConfigError, OutputError
from xalign_dist.training.checkpoint import Checkpoint, Checkpoints, optimizer_tensors, restore_optimizer
from xalign_dist.training.optimizer import build_optimizer, learning_rate
from xalign_dist.training.seeding import seed_dropout
from xalign_dist.training.telemetry import Telemetry, read_telemetry


def test_rate_rises_then_falls_to_nothing() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup_share=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(1 / 90)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate(0, 10, TrainingConfig(learning_rate=1.0, warmup_share=0.0)) == 1.0


def test_decay_falls_on_matrices_only() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    groups = build_optimizer(module, TrainingConfig(weight_decay=0.1)).param_groups
    assert [(g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in groups] == [
        (0.1, [(4, 3)]),
        (0.0, [(4,), (4,), (4,)]),
    ]


def test_fp16_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        autocast_dtype("fp16", torch.device("cpu"))
    assert autocast_dtype("fp32", torch.device("cpu")) is None
    assert autocast_dtype("bf16", torch.device("cpu")) is torch.bfloat16


def test_dropout_depends_on_all_four_numbers() -> None:
    def draw(*numbers: int) -> float:
        seed_dropout(*numbers)
        return float(torch.rand(()))

    draws = {draw(1, 2, 3, 4), draw(0, 2, 3, 4), draw(1, 0, 3, 4), draw(1, 2, 0, 4), draw(1, 2, 3, 0)}
    assert len(draws) == 5
    assert draw(1, 2, 3, 4) == draw(1, 2, 3, 4)


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"encoder": {"w": torch.full((3,), float(step))}, "empty": {}}, {"loss": 0.5})


def test_newest_valid_checkpoint_is_found_and_old_ones_go(tmp_path: Path) -> None:
    store = Checkpoints(str(tmp_path / "c"), keep=2)
    assert store.newest() is None
    for step in (10, 20, 30):
        assert store.save(checkpoint(step)) == store.path(step)
    assert store.steps() == [20, 30]
    newest = store.newest()
    assert newest is not None
    assert (newest.step, newest.figures) == (30, {"loss": 0.5})
    assert newest.tensors["encoder"]["w"].tolist() == [30.0] * 3
    assert not list((tmp_path / "c").glob(".writing-*"))
    assert Checkpoints.load(store.path(20)).step == 20


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "missing", "no manifest", "other schema", "no object"]
)
def test_corrupt_checkpoint_is_skipped_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Checkpoints(str(tmp_path), keep=3)
    store.save(checkpoint(1))
    folder = Path(store.save(checkpoint(2)))
    file, manifest = folder / "encoder.safetensors", folder / "manifest.json"
    content = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(content[:-2])
    elif damage == "flipped":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        file.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "no object":
        manifest.write_text("[]")
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 99}))
    with caplog.at_level(logging.WARNING):
        newest = store.newest()
    assert newest is not None
    assert newest.step == 1
    assert "step=00000002: corrupt checkpoint skipped" in caplog.text
    with pytest.raises(OutputError, match="no valid checkpoint"):
        Checkpoints.load(str(folder))


def test_checkpoints_live_in_an_object_store_too(tmp_path: Path) -> None:
    store = Checkpoints(f"memory://{tmp_path.name}/checkpoints", keep=1)
    store.save(checkpoint(5))
    store.save(checkpoint(6))
    assert store.steps() == [6]
    newest = store.newest()
    assert newest is not None
    assert newest.tensors["encoder"]["w"].tolist() == [6.0] * 3
    assert Checkpoints.load(store.path(6)).step == 6
    assert Checkpoints.load(f"memory://{tmp_path.name}").step == 6


def test_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="checkpoint not written"):
        Checkpoints(str(tmp_path / "file"), keep=1).save(checkpoint(1))


def test_optimizer_state_survives_flat(tmp_path: Path) -> None:
    def module() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(3, 2)

    def step(net: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        net(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    one = module()
    first = torch.optim.AdamW(one.parameters(), lr=0.1)
    step(one, first)
    two = module()
    two.load_state_dict(one.state_dict())
    second = torch.optim.AdamW(two.parameters(), lr=0.1)
    restore_optimizer(second, optimizer_tensors(first))
    step(one, first)
    step(two, second)
    assert torch.equal(one.weight, two.weight)
    assert optimizer_tensors(None) == {}


def test_telemetry_keeps_each_step_once_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "telemetry" / "arm.jsonl"
    with Telemetry(str(file), 0) as telemetry:
        for step in (1, 2, 3):
            telemetry.write({"step": step, "loss": 1.0 / step})
    with file.open("a") as stream:
        stream.write('{"step": 4, "lo')
    with Telemetry(str(file), 2) as telemetry:
        telemetry.write({"step": 3, "loss": 9.0})
    assert [(r["step"], r["loss"]) for r in read_telemetry(file)] == [(1, 1.0), (2, 0.5), (3, 9.0)]
    assert list((tmp_path / "telemetry" / "arm").glob("events.out.tfevents.*"))
    assert read_telemetry(tmp_path / "none.jsonl") == []


def test_telemetry_is_uploaded_to_a_uri(tmp_path: Path) -> None:
    import fsspec

    uri = f"memory://{tmp_path.name}/t/arm.jsonl"
    with Telemetry(uri, 0) as telemetry:
        telemetry.write({"step": 1, "loss": 1.0})
    with Telemetry(uri, 1) as telemetry:
        telemetry.write({"step": 2, "loss": np.float64(0.5)})
    with fsspec.open(uri, "rt") as stream:
        assert [json.loads(line)["step"] for line in stream] == [1, 2]
