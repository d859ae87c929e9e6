from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from jobs.arguments import options_of
from jobs.entry import on_cluster
from jobs.packing import EXCLUDES, check_size, packed, staged
from jobs.submit import VERBS, Order, Submission, main, parse
from xalign_dist.cli import main as xalign
from xalign_dist.errors import ConfigError, OutputError
from xalign_dist.pipeline.rundir import local_only

REPO = Path(__file__).parents[3]


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


def test_metadata_says_what_is_done_where_and_from_which_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    config, space = "jobs/configs/spot.yaml", "tuning/spaces/paper_grid.yaml"
    paths = [str(REPO / config), str(REPO / space)]
    request = parse(["sweep", *paths, "seed=1", "--out", "/shared/runs/s"]).request
    assert request.metadata == {
        "verb": "sweep",
        "name": request.name,
        "run_directory": "/shared/runs/s",
        "config": f"{config} {space}",
    }


def test_entrypoint_survives_the_shell() -> None:
    arguments = ("conf ig.yaml", "training.steps=3; rm -rf /", "--out", "s3://b/$HOME")
    assert shlex.split(_request(*arguments).entrypoint) == ["python", "-m", "jobs.run", *arguments]


def test_parse_splits_own_options_from_the_verbs() -> None:
    order = parse(
        ["train", "c.yaml", "training.steps=3", "--out", "/o", "--address", "http://h:1", "--cpus", "2",
         "--memory-gb", "1.5", "--label", "xalign/pool=data", "--detach"]
    )  # fmt: skip
    request = order.request
    assert request.entrypoint == "python -m jobs.train c.yaml training.steps=3 --out /o"
    assert (order.address, order.follow, order.action) == ("http://h:1", False, "submit")
    assert (request.cpus, request.memory, request.labels) == (2.0, 3 * 2**29, {"xalign/pool": "data"})
    # Where nothing is said, not on a machine that may be taken back.
    assert parse(["train", "c.yaml", "--out", "/o"]).request.labels == {"xalign/market": "!spot"}


@pytest.mark.parametrize(
    "typed",
    [
        "submit sweep c.yaml s.yaml --out /o --max-concurrent 2 --address http://h:1 --follow",
        "submit --address http://h:1 -- sweep c.yaml s.yaml --out /o --max-concurrent 2",
        "submit sweep --address http://h:1 c.yaml s.yaml --out /o --max-concurrent 2 --detach --memory-gb 2",
    ],
)
def test_the_verbs_options_may_stand_among_those_of_submit(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[Order] = []
    monkeypatch.setattr("jobs.command.send", lambda order: orders.append(order) or 0)
    monkeypatch.setattr("sys.argv", ["xalign", *typed.split()])
    with pytest.raises(SystemExit) as ended:
        xalign()
    assert ended.value.code == 0
    (order,) = orders
    assert order.request.entrypoint == "python -m jobs.sweep c.yaml s.yaml --out /o --max-concurrent 2"
    assert (order.address, order.follow) == ("http://h:1", "--detach" not in typed)
    assert order.request.memory == (2 * 2**30 if "--memory-gb" in typed else None)


def test_every_option_of_submit_is_in_its_help() -> None:
    """What typer does not know still works, passed through, but nobody would find it."""
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as said:
        parse(["--help"])
    assert set(re.findall(r"--[a-z-]+", said.getvalue())) - {"--out"} <= options_of("submit") | {"--help"}


@pytest.mark.parametrize("verb", VERBS)
def test_only_verbs_that_write_to_object_stores_get_a_uri(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [verb, "c.yaml", "--out", "s3://bucket/runs/one"]
    if verb in ("run", "train"):
        assert parse(command).request.metadata["run_directory"] == "s3://bucket/runs/one"
        return
    with pytest.raises(OutputError) as here:
        local_only("s3://bucket/runs/one", verb)
    assert main([*command, "--address", "http://127.0.0.1:9"]) == here.value.exit_code
    assert capsys.readouterr().err == f"{here.value}\n"
    assert f"xalign {verb} writes to a file system" in here.value.problem
    with pytest.raises(ConfigError, match=r"--out /shared/runs/NAME$"):
        parse([verb, "c.yaml", "--out", "relative"])


def test_faults_name_the_remedy() -> None:
    with pytest.raises(ConfigError, match="name the run directory"):
        parse(["run", "c.yaml"])
    for relative in (["--out", "runs/one"], ["--out=~/runs/one"]):
        with pytest.raises(ConfigError, match=r"is relative: .*\n.*--out /shared/runs/NAME, or a URI"):
            parse(["run", "c.yaml", *relative])
    for whole in ("/shared/runs/one", "s3://bucket/runs/one"):
        assert parse(["run", "c.yaml", "--out", whole]).request.metadata["run_directory"] == whole
    with pytest.raises(ConfigError, match="xalign/pool=data"):
        parse(["run", "c.yaml", "--out", "/o", "--label", "pool"])
    with pytest.raises(ConfigError, match=r"neither submit nor run has an option --detatch\n.*--detach"):
        parse(["run", "c.yaml", "--out", "/o", "--detatch"])
    with pytest.raises(ConfigError, match="neither submit nor run has an option --max-concurrent\n"):
        parse(["run", "c.yaml", "--out", "/o", "--max-concurrent=2"])
    assert parse(["sweep", "c.yaml", "s.yaml", "--out", "/o", "--max-concurrent=2"]).request.verb == "sweep"


def test_configs_are_sent_along_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "project" / "configs" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("seed: 1\n", "utf-8")
    monkeypatch.chdir(tmp_path / "project")
    request = parse(["run", str(mine), "--out", "/o"]).request
    assert request.arguments[0] == "configs/mine.yaml"
    assert request.configs == ("configs/mine.yaml",)
    assert request.folder == tmp_path / "project"
    monkeypatch.chdir(REPO)
    with pytest.raises(ConfigError, match=r"mine\.yaml lies outside .*\n.*copy it here"):
        parse(["run", str(mine), "--out", "/o"])


def test_the_current_folder_is_sent_with_our_code_in_it(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    for name in ("run.yaml", "code/mine.py", ".env", "texts.parquet"):
        (tmp_path / name).write_text("x")
    elsewhere = tmp_path.parent / f"{tmp_path.name}-secret.txt"
    elsewhere.write_text("not to be sent")
    (tmp_path / "link.txt").symlink_to(elsewhere)
    with staged(tmp_path) as copy:
        found = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
        ours = {name for name in found if name.split("/")[0] in {"xalign_dist", "jobs", "tuning"}}
        assert found - ours == {"run.yaml", "code/mine.py"}
        assert {"xalign_dist/corpora/tmx.py", "jobs/run.py", "tuning/command.py"} <= ours
        assert not any("__pycache__" in name for name in found)
    assert not copy.exists()
    # A clone has them already: they go as they are there.
    for package in ("xalign_dist", "jobs", "tuning"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("# changed")
    with staged(tmp_path) as copy:
        assert (copy / "jobs" / "__init__.py").read_text() == "# changed"
        assert not (copy / "jobs" / "run.py").exists()


def test_a_home_folder_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no project's folder\n.*change into the folder"):
        check_size(tmp_path)
    (tmp_path / "project").mkdir()
    check_size(tmp_path / "project")


def test_status_and_stop_mean_the_same_job() -> None:
    command = ["run", "c.yaml", "--out", "/o"]
    orders = [parse([*command, *flag]) for flag in ([], ["--status"], ["--stop"])]
    assert [o.action for o in orders] == ["submit", "status", "stop"]
    assert len({o.request.name for o in orders}) == 1


def test_no_data_and_no_secret_is_sent(tmp_path: Path) -> None:
    sent = ["a.py", "jobs/configs/c.yaml", "tuning/spaces/s.yaml", "xalign_dist/corpora/tmx.py"]
    secrets = [
        ".env",
        "prod.env",
        "deploy.pem",
        ".aws/config",
        "sub/.ssh/id_rsa",
        "a/auth_token",
        "credentials",
    ]
    data = ["corpora/x.txt", "m.safetensors", "big/d.parquet", "scratch/notes.txt", "x.tmp", ".git/HEAD"]
    kept = [*secrets, *data]
    for name in [*sent, *kept]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text("# mine\nscratch/\n*.tmp\n")
    assert {path for path, _ in packed(tmp_path)} == {*sent, ".gitignore"}


def test_a_folder_that_is_too_large_is_refused_with_its_largest_files(tmp_path: Path) -> None:
    for name, size in (("small.py", 10), ("movie.bin", 3 * 2**20), ("deep/other.bin", 2**20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    check_size(tmp_path, limit=5 * 2**20)
    with pytest.raises(
        ConfigError, match=r"4\.0 MiB .* at most 2\.0 MiB .*movie\.bin \(3\.0 MiB\)[^\n]*\n.*rayignore"
    ):
        check_size(tmp_path, limit=2 * 2**20)


def test_this_repository_is_small_enough_and_sent_whole() -> None:
    check_size(REPO)
    sent = {path for path, _ in packed(REPO)}
    code = {
        str(path.relative_to(REPO))
        for folder in ("xalign_dist", "jobs", "tuning", "cluster")
        for path in (REPO / folder).rglob("*.py")
    }
    assert code <= sent  # a package of ours may have the name of a folder of data
    assert not {path.split("/")[0] for path in sent} & {"tests", "docs", "benchmarks", "runs"}


def test_no_cluster_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "c.yaml", "--out", "/o", "--address", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert "no job server at http://127.0.0.1:9" in error
    assert "remedy:" in error


def test_every_verb_has_its_entry_point() -> None:
    assert {p.stem for p in (REPO / "jobs").glob("*.py")} == {
        "__init__",
        "arguments",
        "command",
        "entry",
        "following",
        "inputs",
        "packing",
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
