"""MLflow and Weights & Biases get what the telemetry says, and nothing secret; with the real packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from training_world import tiny_job
from wandb.proto import wandb_internal_pb2

from xalign_dist.config import TrackingConfig, load_config
from xalign_dist.errors import ConfigError, DependencyError, ResourceError
from xalign_dist.training import run_training
from xalign_dist.training.telemetry import read_telemetry
from xalign_dist.training.tracking import Trackers


def store(home: Path) -> str:
    return f"file://{home / 'mlflow'}"


def runs_in(uri: str, experiment: str = "xalign_dist") -> tuple[mlflow.MlflowClient, list[Any]]:
    client = mlflow.MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return client, list(client.search_runs([found.experiment_id]))


def history(client: mlflow.MlflowClient, run: Any, name: str) -> dict[int, float]:
    return {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}


def test_mlflow_holds_every_step_in_one_run_over_all_slices(tmp_path: Path) -> None:
    config = TrackingConfig(mlflow=store(tmp_path), every=3)
    telemetry = str(tmp_path / "telemetry" / "adaptive.jsonl")
    first = tiny_job(tmp_path, stop_step=5, telemetry=telemetry, tracking=config)
    run_training(first)
    second = tiny_job(
        tmp_path,
        **{"work": str(tmp_path / "w2"), "out": str(tmp_path / "o2"), "telemetry": telemetry},
        **{"start_step": 5, "init_checkpoint": first.work, "tracking": config},
    )
    run_training(second)
    client, runs = runs_in(config.mlflow or "")
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    assert runs[0].info.run_name == "adaptive"
    assert runs[0].data.params["training.batch_pairs"] == "12"
    assert runs[0].data.params["objective.temperature.start"] == "0.07"
    lines = read_telemetry(Path(telemetry))
    for name in ("loss", "tau", "effective_negatives", "pairs_per_second", "lr"):
        assert history(client, runs[0], name) == pytest.approx({r["step"]: r[name] for r in lines}), name
    assert len(lines) == 8


def test_a_training_that_fails_is_marked_so(tmp_path: Path) -> None:
    config = TrackingConfig(mlflow=store(tmp_path), every=100)

    def fail(record: Any) -> None:
        if record.step == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_training(tiny_job(tmp_path, tracking=config), report=fail)
    client, runs = runs_in(config.mlflow or "")
    assert runs[0].info.status == "FAILED"
    # What waited to be sent together is there all the same.
    assert sorted(history(client, runs[0], "loss")) == [1, 2, 3, 4]


def test_a_store_that_breaks_on_the_way_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = store(tmp_path)
    trackers = Trackers(TrackingConfig(mlflow=uri, every=1), "job", "name", {}, str(tmp_path))
    trackers.write({"step": 1, "loss": 1.0, "gap": float("nan")})
    client, runs = runs_in(uri)
    assert history(client, runs[0], "gap") == {}
    client.delete_run(runs[0].info.run_id)
    for step in (2, 3):
        trackers.write({"step": step, "loss": 0.5})
    trackers.close()
    assert caplog.text.count("MLflow failed at step 2") == 1


WANDB = """
import os, sys
from xalign_dist.config import TrackingConfig
from xalign_dist.training.tracking import Trackers
config = TrackingConfig(wandb="aligned", wandb_mode="offline", every=2)
trackers = Trackers(config, "job", "adaptive", {"training": {"steps": 3}}, sys.argv[1])
for step in (1, 2, 3):
    trackers.write({"step": step, "loss": 1.5 / step})
trackers.close()
"""


def records_of(file: Path) -> Iterator[wandb_internal_pb2.Record]:
    """What a small .wandb file holds: 7 bytes, then crc, length and kind before each record."""
    content, at = file.read_bytes(), 7
    while at < len(content):
        length = int.from_bytes(content[at + 4 : at + 6], "little")
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content[at + 7 : at + 7 + length])
        yield record
        at += 7 + length


@pytest.mark.faults  # starts W&B's own service, 15 s on a busy machine
def test_wandb_offline_writes_a_run_without_a_token(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    subprocess.run([sys.executable, "-c", WANDB, str(tmp_path)], check=True, env=environment, timeout=120)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    steps = {}
    for record in records_of(file):
        if record.WhichOneof("record_type") == "history":
            row = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
            steps[int(row["_step"])] = float(row["loss"])
    assert steps == pytest.approx({1: 1.5, 2: 0.75, 3: 0.5})


def test_what_is_missing_or_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match=r"(?s)tracking\.mlflow: .*/file.*MLFLOW_TRACKING_TOKEN"):
        Trackers(TrackingConfig(mlflow=f"file://{tmp_path / 'file'}"), "j", "n", {}, str(tmp_path))
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
        config = TrackingConfig.model_validate({name: "file:///x"})
        with pytest.raises(DependencyError, match=r"xalign_dist\[tracking\]"):
            Trackers(config, "j", "n", {}, str(tmp_path))


def test_secrets_do_not_enter_the_config() -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        load_config(None, ["tracking.mlflow=https://me:verysecret@host"])
    assert "verysecret" not in str(caught.value)
    assert load_config(None, ["tracking.mlflow=https://host"]).tracking.mlflow == "https://host"
