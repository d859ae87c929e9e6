"""The README's section "On a cluster", line by line, on a real head with token authentication and no GPU."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import django
import pytest
import yaml
from ray_head import Head, ray_head

from xalign_dist.encoder.builtin import cache_root

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

REPO = Path(__file__).parents[2]
LAYER = "builtin:e5-small?layers=1"
GERMAN = Path(django.__file__).parent / "contrib" / "admin" / "locale" / "de" / "LC_MESSAGES" / "django.po"
SUBMIT = "xalign submit --address http://127.0.0.1:8265"
RUN = "run run.yaml --out $RUNS/two"
LONG = "run run.yaml training.steps=100000 --out $RUNS/long"

# Every line of the section, and what it has to say; all of them end with exit code 0.
LINES = {
    "source .venv/bin/activate": r"^$",
    "export RAY_AUTH_MODE=token RUNS=$HOME/runs": r"^$",
    "ray get-auth-token --generate": r"[0-9a-f]{64}",
    "chmod 600 ~/.ray/auth_token": r"^$",
    "ray start --head": r"Ray runtime started",
    "xalign run run.yaml --address auto --out $RUNS/one": r"Ray dashboard: (?s:.*)done  write the report",
    f"{SUBMIT} -- {RUN}": r"started xalign-run-two-(?s:.*)done  write the report",
    f"{SUBMIT} --status -- {RUN}": r"xalign-run-two-\w+-1 SUCCEEDED",
    f"{SUBMIT} --stop -- {RUN}": r"xalign-run-long-\w+-1 (RUNNING|STOPPED)",
    "xalign sweep run.yaml tuning/spaces/paper_grid.yaml --address auto --out $RUNS/sweep": r"best config: ",
    "xalign sweep --report --out $RUNS/sweep": r"report: .*report\.html",
}
# What becomes of them here: where this Ray and this Python are, a job that lasts until it is stopped, and a
# space of two points. `run.yaml` is CONFIG, $HOME a folder of the test's own.
HERE = {
    ".venv/": f"{sys.prefix}/",
    "--address auto": "--address {head.address}",  # other tests have their own Ray on this machine
    "http://127.0.0.1:8265": "{head.dashboard}",
    f"--stop -- {RUN}": f"--stop -- {LONG}",
    "tuning/spaces/paper_grid.yaml": "tuning/spaces/two_points.yaml",
}
CONFIG = {
    "corpora": [{"path": str(GERMAN), "src_lang": "en", "tgt_lang": "de"}],
    "encoder": {"model": LAYER},
    "scoring": {"reference": LAYER},
    "mining": {"second_view": "none"},
    "training": {"steps": 4, "batch_pairs": 16},
    "rounds": {"count": 1},
    "evaluation": {"baselines": ["initial"], "bootstrap": 100, "permutations": 100},
    "runtime": {"train_workers": 0},
}
TWO_POINTS = {
    "finalists": 1,
    "seeds": 1,
    "parameters": {"training.learning_rate": {"grid": [0.0001, 0.0002]}},
}


def _lines() -> list[str]:
    text = (REPO / "README.md").read_text("utf-8")
    section = text[text.index("\n## On a cluster\n") :].split("\n## ")[1]
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```$", section, re.DOTALL | re.MULTILINE))
    return [bare for line in blocks.splitlines() if (bare := re.sub(r"(^|\s+)# .*$", "", line))]


@dataclass(frozen=True)
class Cluster:
    """A user's shell after the section's first lines: checkout, environment, what was said, and the head."""

    checkout: Path
    environment: dict[str, str]
    said: dict[str, str]
    head: Head

    def run(self, line: str, **changed: str) -> tuple[int, str]:
        """Exit code and output of a line, as HERE makes it."""
        return _bash(_here(line, self.head), {**self.environment, **changed}, self.checkout)


def _here(line: str, head: Head | None = None) -> str:
    for there, here in HERE.items():
        line = line.replace(there, here.format(head=head) if head else here)
    return line


def _bash(line: str, environment: dict[str, str], folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout


def _checkout(folder: Path) -> Path:
    """What is sent with a job, and in it the config and the space."""
    for part in ("xalign_dist", "jobs", "tuning"):
        shutil.copytree(REPO / part, folder / part)
    shutil.copy(REPO / ".gitignore", folder)
    (folder / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "tuning" / "spaces" / "two_points.yaml").write_text(yaml.safe_dump(TWO_POINTS))
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The section up to `ray start`; what a line exports is there in the next one."""
    home = tmp_path_factory.mktemp("home")
    checkout = _checkout(home / "checkout")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"HOME": str(home), "XALIGN_CACHE": str(cache_root())}
    said: dict[str, str] = {}
    lines = _lines()
    start = next(n for n, line in enumerate(lines) if line.startswith("ray start --head"))
    for line in lines[:start]:
        code, said[line] = _bash(f"{_here(line)} && env -0 > {home}/env", environment, checkout)
        assert code == 0, said[line]
        variables = (home / "env").read_text().split("\0")
        environment = dict(v.split("=", 1) for v in variables if v)
    with ray_head(environment, options=tuple(shlex.split(lines[start])[3:])) as head:
        said[lines[start]] = _once(lambda: Path(head.folder, "head.log").read_text(), "Ray runtime started")
        mine = {
            "RAY_TMPDIR": head.folder, "RAY_worker_niceness": "0", "COLUMNS": "200",
            # The command's script would find this repository; the user's shell stands in the copy.
            "PYTHONPATH": str(checkout),
        }  # fmt: skip
        yield Cluster(checkout, {**environment, **mine}, said, head)


def _once(ask: Callable[[], str], wanted: str, seconds: float = 120) -> str:
    deadline = time.monotonic() + seconds
    while wanted not in (said := ask()):
        assert time.monotonic() < deadline, said
        time.sleep(0.5)
    return said


def test_every_line_of_the_section_is_run_here() -> None:
    assert _lines() == list(LINES)


@pytest.mark.parametrize("line", LINES)
def test_line_does_what_the_section_says(cluster: Cluster, line: str) -> None:
    if "--stop" in line:
        assert cluster.run(f"{SUBMIT} --detach -- {LONG}")[0] == 0
        _once(lambda: cluster.run(f"{SUBMIT} --status -- {LONG}")[1], "RUNNING")
    code, said = (0, cluster.said[line]) if line in cluster.said else cluster.run(line)
    assert code == 0, said
    assert re.search(LINES[line], said), said
    if "--stop" in line:
        _once(lambda: cluster.run(f"{SUBMIT} --status -- {LONG}")[1], "STOPPED")


def test_the_section_leaves_what_it_says(cluster: Cluster) -> None:
    home = Path(cluster.environment["HOME"])
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    for run in ("one", "two"):
        assert (home / "runs" / run / "model" / "model.safetensors").exists()
    assert (home / "runs" / "sweep" / "best.yaml").exists()


def test_the_same_command_attaches(cluster: Cluster) -> None:
    code, said = cluster.run(f"{SUBMIT} -- {RUN}")
    assert code == 0
    assert re.search(r"attached to xalign-run-two-\w+-1", said)


@pytest.mark.parametrize(
    "token", [{"HOME": "/nonexistent"}, {"RAY_AUTH_TOKEN": "d" * 64}], ids=["none", "wrong"]
)
def test_a_wrong_token_and_none_are_refused_with_the_remedy(cluster: Cluster, token: dict[str, str]) -> None:
    code, said = cluster.run(f"{SUBMIT} -- run run.yaml --out /runs/three", **token)
    assert code == 2
    assert "token" in said
    assert "remedy: set RAY_AUTH_MODE=token" in said


def test_configs_for_gpus_are_refused_by_a_cluster_without(cluster: Cluster) -> None:
    code, said = cluster.run("xalign run jobs/configs/node_8gpu.yaml --address auto --out $RUNS/gpu")
    assert code == 2
    assert "training asks for 8 x (1 CPU, 1 GPU) on nodes with xalign/pool=train" in said
    assert "the cluster has no GPU, nor a group that could add one" in said
    assert "remedy: set runtime.gpus_per_worker=null" in said

    code, said = cluster.run(f"{SUBMIT} -- run jobs/configs/spot.yaml --out $RUNS/spot")
    assert code == 2, "the job's exit code is the command's"
    assert "started xalign-run-spot-" in said
    assert "training asks for 4 x (1 CPU, 1 GPU) on nodes with xalign/pool=spot" in said


def test_budgets_hold(cluster: Cluster) -> None:
    line = "xalign sweep run.yaml tuning/spaces/paper_grid.yaml --address auto --out $RUNS/budget --budget"
    code, said = cluster.run(f"{line} 20gpuh")
    assert code == 2
    assert "budget 20gpuh, but the cluster has no GPU" in said
    assert "cpuh" in said

    code, said = cluster.run(f"{line} 0.0001cpuh")
    assert code == 1
    assert "the budget of 0.0001cpuh was spent before any trial reported a value" in said
