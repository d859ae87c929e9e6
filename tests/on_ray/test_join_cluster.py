"""Clusters that cannot be joined: each is one clear error, soon, and Ray is not left connected."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
import yaml
from ray_head import Head, ray_head

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

TOKEN = "a" * 64
REPO = Path(__file__).parents[2]
JOIN = """
import sys
from xalign_dist.config import RuntimeConfig
from xalign_dist.errors import XalignError
from xalign_dist.runtime.session import ray_session
try:
    with ray_session(RuntimeConfig(address=sys.argv[1])) as found:
        print("joined", found.cpus)
except XalignError as err:
    print(type(err).__name__, err)
"""

LEFT = """
import sys
from ray.util.state import list_actors, list_jobs, list_placement_groups
jobs = [j.entrypoint for j in list_jobs(sys.argv[1]) if j.status in ("PENDING", "RUNNING")]
actors = [a.class_name for a in list_actors(sys.argv[1]) if a.state != "DEAD"]
groups = [g.placement_group_id for g in list_placement_groups(sys.argv[1]) if g.state != "REMOVED"]
print(len(list_jobs(sys.argv[1])), jobs + actors + groups)
"""
LAYER = "builtin:e5-small?layers=1"
GERMAN = Path(django.__file__).parent / "contrib" / "admin" / "locale" / "de" / "LC_MESSAGES" / "django.po"


def _join(address: str, home: Path, **environment: str) -> str:
    """What a process of its own says: a token is read once in a process."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", JOIN, address],
        env={**clean, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def guarded() -> Iterator[Head]:
    with ray_head({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}) as head:
        yield head


def test_the_right_token_joins(guarded: Head, tmp_path: Path) -> None:
    assert "joined 2" in _join(guarded.address, tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RAY_AUTH_MODE": "token"}, "wants a token: Token authentication is enabled but no"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64}, "wrong or expired token"),
        ({"RAY_AUTH_MODE": "disabled"}, "wrong or expired token"),
    ],
    ids=["none", "expired", "switched-off"],
)
def test_no_token_and_an_expired_one(
    guarded: Head, tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    started = time.monotonic()
    said = _join(guarded.address, tmp_path, **environment)
    assert said.startswith("ResourceError")
    assert message in said
    assert "RAY_AUTH_TOKEN" in said
    assert time.monotonic() - started < 120


def _xalign(line: str) -> tuple[int, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "xalign_dist", *line.split()],
        env={**clean, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_refused_leaves_nothing_running(guarded: Head, tmp_path: Path) -> None:
    config, wrong, empty = (tmp_path / f"{name}.yaml" for name in ("run", "wrong", "empty"))
    parts = {
        "corpora": [{"path": str(GERMAN), "src_lang": "en", "tgt_lang": "de"}],
        "encoder": {"model": LAYER},
        "scoring": {"reference": LAYER},
    }
    config.write_text(yaml.safe_dump(parts))
    wrong.write_text("parameters:\n  training.lerning_rate: {grid: [0.1]}\n")
    empty.write_text("parameters:\n  training.batch_pairs: {grid: []}\n")
    out, here = f"--out {tmp_path}/out", f"--address {guarded.address}"
    refused = {
        f"run {config} {out} --address 127.0.0.1:9": "nothing answers at 127.0.0.1:9",
        f"run {config} runtime.gpus_per_worker=1 {out} {here}": "the cluster has no GPU",
        f"sweep {config} {wrong} {out} {here}": "learning_rate",
        f"sweep {config} {empty} {out} {here}": "training.batch_pairs",
        f"submit --address http://127.0.0.1:9 -- run {REPO}/jobs/configs/laptop.yaml {out}": "no job server",
    }
    for line, problem in refused.items():
        code, said = _xalign(line)
        assert code == 2, said
        assert problem in said
        assert "remedy:" in said
    done = subprocess.run(
        [sys.executable, "-c", LEFT, guarded.dashboard],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    count, left = done.stdout.split(maxsplit=1)
    assert int(count) > 0, "the cluster knows of the commands that reached it"
    assert left.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("prelude", "there"),
    [
        ("import ray; ray.__version__ = '2.1.0'", "Ray 2.1.0"),
        (
            "import ray._private.utils as u; u.compute_version_info = lambda: ('2.60.0', '3.10.2')",
            "Python 3.10.2",
        ),
    ],
    ids=["ray", "python"],
)
def test_a_cluster_of_another_version(tmp_path: Path, prelude: str, there: str) -> None:
    with ray_head({"RAY_AUTH_MODE": "disabled"}, prelude=prelude) as head:
        said = _join(head.address, tmp_path, RAY_AUTH_MODE="disabled")
    assert said.startswith("ResourceError")
    assert there in said.split("; this machine has")[0]
    assert "constraints.txt" in said
