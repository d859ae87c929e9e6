"""torch.compile against eager: the same losses, dropout included, cached and plain; and its faults."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_world import tiny_job

from xalign_dist.config import TrainingConfig, parse_config
from xalign_dist.errors import ConfigError
from xalign_dist.training import TrainJob, run_training

SGD = {"optimizer": "sgd", "learning_rate": 1e-2, "clip_norm": 1e9}


def curve(job: TrainJob, name: str, **settings: object) -> list[float]:
    home = Path(job.work).parent
    training = job.training.model_copy(update=settings)
    seen: list[float] = []
    run_training(
        dataclasses.replace(job, work=str(home / name), out=str(home / f"{name}.out"), training=training),
        report=lambda r: seen.extend((r.loss, r.gradient_norm)),
    )
    return seen


@pytest.mark.faults
def test_compiled_is_eager_with_dropout_and_cached_gradients(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, dropout=0.1, training=SGD)
    for chunk in (5, None):
        eager = curve(job, f"eager-{chunk}", chunk_pairs=chunk)
        compiled = curve(job, f"compiled-{chunk}", chunk_pairs=chunk, compile=True)
        assert compiled == pytest.approx(eager, rel=1e-5)


WITHOUT_COMPILER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from training_world import tiny_job
from xalign_dist.errors import ModelError
from xalign_dist.training import run_training
try:
    run_training(tiny_job(Path({home!r}), training={{"compile": True}}))
except ModelError as err:
    print(err)
"""


@pytest.mark.faults
def test_a_machine_without_a_compiler_is_told_what_to_do(tmp_path: Path) -> None:
    script = WITHOUT_COMPILER.format(tests=str(Path(__file__).parents[1]), home=str(tmp_path))
    environment = os.environ | {
        **{"CXX": "/nowhere/c++", "PATH": str(tmp_path)},
        **{"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert "torch.compile of BertModel failed" in done.stdout, done.stderr[-2000:]
    assert "set training.compile=false" in done.stdout


def test_compiling_under_zero_3_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.compile=false or training\.deepspeed\.zero_stage"):
        parse_config({"training": {"compile": True, "deepspeed": {"zero_stage": 3}}})
    TrainingConfig.model_validate({"compile": True, "deepspeed": {"zero_stage": 2}})
