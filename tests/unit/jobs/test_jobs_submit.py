from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from jobs.entry import on_cluster
from jobs.submit import EXCLUDES, REPO, VERBS, Submission, main, parse
from xalign_dist.errors import ConfigError


def _request(*arguments: str, verb: str = "run") -> Submission:
    return Submission(verb, arguments)


def test_same_request_same_name_other_request_other_name(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("seed: 1\n", "utf-8")
    first = _request(str(config), "--out", "s3://bucket/runs/one/")
    assert first.name == _request(str(config), "--out", "s3://bucket/runs/one/").name
    assert first.name.startswith("xalign-run-one-")
    others = [
        _request(str(config), "--out", "s3://bucket/runs/two"),
        _request(str(config), "seed=2", "--out", "s3://bucket/runs/one/"),
        _request(str(config), "--out", "s3://bucket/runs/one/", verb="ablate"),
    ]
    names = [first.name, *(o.name for o in others)]
    config.write_text("seed: 3\n", "utf-8")
    assert len({*names, first.name}) == 5


def test_name_is_fit_for_a_submission_id() -> None:
    name = _request("--out=gs://b/runs/a run: (1)").name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


def test_entrypoint_survives_the_shell() -> None:
    arguments = ("conf ig.yaml", "training.steps=3; rm -rf /", "--out", "s3://b/$HOME")
    assert shlex.split(_request(*arguments).entrypoint) == ["python", "-m", "jobs.run", *arguments]


def test_parse_splits_own_options_from_the_verbs() -> None:
    request, address, follow = parse(
        ["train", "c.yaml", "training.steps=3", "--out", "o", "--address", "http://h:1", "--cpus", "2",
         "--memory-gb", "1.5", "--label", "xalign/pool=data", "--detach"]
    )  # fmt: skip
    assert request.entrypoint == "python -m jobs.train c.yaml training.steps=3 --out o"
    assert (address, follow) == ("http://h:1", False)
    assert (request.cpus, request.memory, request.labels) == (2.0, 3 * 2**29, {"xalign/pool": "data"})


def test_faults_name_the_remedy() -> None:
    with pytest.raises(ConfigError, match="name the run directory"):
        parse(["run", "c.yaml"])
    with pytest.raises(ConfigError, match="xalign/pool=data"):
        parse(["run", "c.yaml", "--out", "o", "--label", "pool"])


def test_configs_are_sent_along_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO / "jobs")
    request, _, _ = parse(["run", "configs/laptop.yaml", "--out", "o"])
    assert request.arguments[0] == "jobs/configs/laptop.yaml"
    outside = tmp_path / "mine.yaml"
    outside.write_text("seed: 1\n", "utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml lies outside .*\n.*copy it into jobs/configs"):
        parse(["run", str(outside), "--out", "o"])


def test_no_cluster_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "c.yaml", "--out", "o", "--address", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert "no job server at http://127.0.0.1:9" in error
    assert "remedy:" in error


def test_every_verb_has_its_entry_point() -> None:
    assert {p.stem for p in (REPO / "jobs").glob("*.py")} == {
        "__init__",
        "command",
        "entry",
        "submit",
        *VERBS,
    }
    assert not {"jobs", "tuning", "xalign_dist", "cluster"} & set(EXCLUDES)


def test_a_job_joins_its_cluster_and_nobody_elses() -> None:
    inside = {"RAY_ADDRESS": "10.0.0.1:6379"}
    assert on_cluster(["c.yaml"], inside) == ["c.yaml", "--address", "10.0.0.1:6379"]
    assert on_cluster(["c.yaml", "--address=auto"], inside) == ["c.yaml", "--address=auto"]
    assert on_cluster(["c.yaml"], {}) == ["c.yaml"]


@pytest.mark.parametrize("verb", VERBS)
def test_entry_point_starts_its_own_verb(verb: str) -> None:
    assert f'start("{verb}")' in (REPO / "jobs" / f"{verb}.py").read_text("utf-8")
