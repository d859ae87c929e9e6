"""The README's section "On a cluster", line by line, on a real head with token authentication and no GPU."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
import yaml
from ray_head import Head, ray_head

from tuning.space import load_space
from tuning.summary import Trial, write_summary

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

REPO = Path(__file__).parents[2]
TOKEN = "c" * 64
LAYER = "builtin:e5-small?layers=1"
GERMAN = Path(django.__file__).parent / "contrib" / "admin" / "locale" / "de" / "LC_MESSAGES" / "django.po"
NO_GPU = "the cluster has no GPU, nor a group that could add one"


def _commands() -> list[str]:
    text = (REPO / "README.md").read_text("utf-8")
    section = text[text.index("\n## On a cluster\n") :].split("\n## ")[1]
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```$", section, re.DOTALL | re.MULTILINE))
    return [shlex.join(words) for line in blocks.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # Jobs are started as `python -m jobs.VERB`: with the head's own python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with ray_head({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "PATH": path}) as found:
        yield found


@pytest.fixture
def shell(head: Head, tmp_path: Path):
    """Runs a line of the README: the address, /shared and run.yaml are put where they are here."""
    config = {
        "corpora": [{"path": str(GERMAN), "src_lang": "en", "tgt_lang": "de"}],
        "encoder": {"model": LAYER},
        "scoring": {"reference": LAYER},
        "mining": {"second_view": "none"},
        "training": {"steps": 4, "batch_pairs": 16},
        "runtime": {"train_workers": 0},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment = {
        **clean, "RAY_TMPDIR": head.folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN,
        "RAY_worker_niceness": "0", "COLUMNS": "200",
    }  # fmt: skip

    def run(line: str, *more: str, **changed: str) -> tuple[int, str]:
        line = line.replace("http://127.0.0.1:8265", head.dashboard).replace("/shared", str(tmp_path))
        words = [str(tmp_path / "run.yaml") if w == "run.yaml" else w for w in shlex.split(line)]
        assert words[0] == "xalign"
        words = words[1:2] + list(more) + words[2:]
        # On a machine of a cluster `auto` finds the one Ray there is; here other tests may have theirs.
        here = {"RAY_ADDRESS": head.address} if "auto" in words else {}
        done = subprocess.run(
            [sys.executable, "-m", "xalign_dist", *words],
            cwd=REPO,
            env={**environment, **here, **changed},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_every_line_of_the_section_is_tested_here() -> None:
    starts = [" ".join(line.split()[:2]) for line in _commands()]
    assert starts == ["xalign run", "xalign submit", "xalign sweep", "xalign sweep", "xalign sweep"]


def test_a_run_joins_the_cluster_and_is_told_at_once_what_it_lacks(shell) -> None:
    code, said = shell(_commands()[0])
    assert code == 2
    assert "training asks for 8 x (1 CPU, 1 GPU) on nodes with xalign/pool=train" in said
    assert NO_GPU in said
    assert "remedy: set runtime.gpus_per_worker=null" in said


def test_a_job_of_the_same_command_is_followed_and_its_end_is_the_commands(shell) -> None:
    line = _commands()[1]
    code, said = shell(line)
    assert code == 1
    assert "started xalign-run-two-" in said
    assert "training asks for 4 x (1 CPU, 1 GPU) on nodes with xalign/pool=spot" in said
    assert NO_GPU in said
    code, said = shell(line, "--status")
    assert (code, "FAILED" in said) == (1, True)
    assert shell(line, "--stop")[0] == 1  # it had ended: it stays what it was


def test_a_job_that_can_run_is_run_once(shell, tmp_path: Path) -> None:
    line = (
        f"xalign submit --address http://127.0.0.1:8265 -- score --model {LAYER} --pairs {GERMAN} "
        f"--src-lang en --tgt-lang de --out {tmp_path}/scored"
    )
    code, said = shell(line)
    assert code == 0, said
    assert "started xalign-score-scored-" in said
    assert (tmp_path / "scored" / "pairs.parquet").exists()
    code, said = shell(line)
    assert code == 0
    assert "attached to xalign-score-scored-" in said
    assert "SUCCEEDED" in shell(line, "--status")[1]


@pytest.mark.parametrize(
    "token", [{"RAY_AUTH_TOKEN": "d" * 64}, {"RAY_AUTH_TOKEN": "", "HOME": "/nonexistent"}]
)
def test_a_wrong_token_and_none_are_refused_with_the_remedy(shell, token: dict[str, str]) -> None:
    code, said = shell(_commands()[1], **token)
    assert code == 2
    assert "token" in said
    assert "remedy: set RAY_AUTH_MODE=token" in said


def test_sweeps_start_and_their_budget_holds(shell, tmp_path: Path) -> None:
    grid, wide, report = _commands()[2:]
    code, said = shell(grid)
    assert code == 2
    assert "budget 20gpuh, but the cluster has no GPU" in said
    assert "cpuh" in said

    code, said = shell(wide, "--budget", "0.0001cpuh")
    assert code == 1
    assert "the budget of 0.0001cpuh was spent before any trial reported a value" in said

    space = load_space(REPO / "tuning" / "spaces" / "paper_grid.yaml")
    point = {key: parameter.probes()[0] for key, parameter in space.parameters.items()}
    write_summary([Trial(point, 0.5, {}, 1.0)], space, None, tmp_path / "runs" / "sweep")
    code, said = shell(report)
    assert code == 0
    assert (tmp_path / "runs" / "sweep" / "report.html").exists()
