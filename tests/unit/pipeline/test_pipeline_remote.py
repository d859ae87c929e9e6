"""The mirror of a run on object storage: what is there after a kill, a fault, another machine."""

from __future__ import annotations

import json
import shutil
import time

import fsspec
import pytest
from s3_server import s3_environment

from xalign_dist.errors import OutputError
from xalign_dist.pipeline import remote
from xalign_dist.pipeline.manifest import Manifest
from xalign_dist.pipeline.remote import Mirror


@pytest.fixture
def server():
    with s3_environment() as it:
        yield it


def write(mirror: Mirror, **files: str) -> None:
    for name, text in files.items():
        path = mirror.root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def stage(mirror: Mirror, name: str, file: str, text: str) -> None:
    write(mirror, **{file: text})
    Manifest(mirror.root, mirror.push).run(name, "inputs", [mirror.root / file], lambda: {"rows": 1})


def opened(folder, uri: str = "s3://runs/one", **more) -> Mirror:
    mirror = Mirror(uri, str(folder), **more)
    mirror.fetch()
    return mirror


def closed(mirror: Mirror) -> None:
    with mirror.kept():
        pass


def test_another_machine_has_what_was_committed_and_only_that(server, tmp_path):
    first = opened(tmp_path / "a")
    write(first, config="c", pairs__x="pairs")
    stage(first, "clean", "corpus", "clean text")
    write(first, later="not committed")

    second = opened(tmp_path / "b")
    assert (second.root / "corpus").read_text() == "clean text"
    assert (second.root / "pairs" / "x").read_text() == "pairs"
    assert not (second.root / "later").exists()
    assert Manifest(second.root).done("clean", "inputs")


def test_manifest_is_the_last_thing_written(server, tmp_path):
    mirror = opened(tmp_path)
    before = len(server.requests)
    stage(mirror, "clean", "corpus", "text")
    writes = [p.rsplit("/", 1)[-1].rstrip("?") for m, p in server.requests[before:] if m == "PUT"]
    assert writes[-2:] == ["files.json", "manifest.json"]
    assert "corpus" in "".join(writes[:-2])


def test_file_written_over_by_a_killed_upload_is_missing(server, tmp_path):
    first = opened(tmp_path / "a")
    stage(first, "clean", "corpus", "text")
    stage(first, "score", "pairs", "scored")
    server.client.put_object(Bucket="runs", Key="one/pairs", Body=b"of a later, unfinished stage")
    second = opened(tmp_path / "b")
    manifest = Manifest(second.root)
    assert manifest.done("clean", "inputs")
    assert not manifest.done("score", "inputs")


def test_local_copy_stays_ahead_unless_another_machine_went_on(server, tmp_path):
    mirror = opened(tmp_path / "a")
    stage(mirror, "clean", "corpus", "text")
    write(mirror, block="embedded, not uploaded")
    closed_without_push(mirror)
    again = opened(tmp_path / "a")
    assert (again.root / "block").exists()
    closed_without_push(again)

    stage(opened(tmp_path / "b"), "score", "pairs", "elsewhere")
    last = opened(tmp_path / "a")
    assert not (last.root / "block").exists()
    assert (last.root / "pairs").read_text() == "elsewhere"


def closed_without_push(mirror: Mirror) -> None:
    remote.os.close(mirror._lock)


def test_what_stages_remove_is_removed_and_private_files_stay_here(server, tmp_path):
    mirror = opened(tmp_path)
    write(mirror, work__step1="a", training_set__x="big", arms__ray__books="x", pairs="p")
    mirror.push()
    assert {"one/work/step1", "one/pairs"} <= set(server.names())
    assert not any("training_set" in name or "/ray/" in name for name in server.names())
    shutil.rmtree(mirror.root / "work")
    mirror.push()
    assert "one/work/step1" not in server.names()


def test_superseded_checkpoints_are_neither_fetched_nor_deleted(server, tmp_path):
    first = opened(tmp_path / "a")
    for number in (1, 2):
        write(first, **{f"arms/adaptive/round={number}/work/checkpoints/step=1/manifest.json": str(number)})
        stage(first, f"adaptive: round {number}", f"model{number}", "m")
    second = opened(tmp_path / "b")
    work = "arms/adaptive/round={}/work/checkpoints/step=1/manifest.json"
    assert not (second.root / work.format(1)).exists()
    assert (second.root / work.format(2)).exists()
    stage(second, "evaluate", "metrics", "1")
    assert f"one/{work.format(1)}" in server.names()


@pytest.mark.faults
def test_checkpoint_replaced_during_its_upload_is_uploaded_whole(server, tmp_path, monkeypatch):
    mirror = opened(tmp_path / "a")
    work = "arms__adaptive__round=1__work__checkpoints__step="
    write(mirror, **{f"{work}1__w": "weights", f"{work}1__manifest.json": "{}", "config.yaml": "c"})
    put = mirror._store.put

    def slow(path, name):
        if name.endswith("step=1/w"):
            shutil.rmtree(mirror.root / "arms" / "adaptive" / "round=1" / "work" / "checkpoints" / "step=1")
        put(path, name)

    monkeypatch.setattr(mirror._store, "put", slow)
    mirror.push()
    home = "one/arms/adaptive/round=1/work/checkpoints/step=1"
    assert server.read(f"{home}/w") == b"weights"
    second = opened(tmp_path / "b")
    assert (second.root / home.removeprefix("one/") / "w").read_text() == "weights"
    assert (second.root / home.removeprefix("one/") / "manifest.json").exists()
    assert not (mirror.root / ".held").exists()


def test_every_tenth_request_fails(server, tmp_path):
    server.every = 10
    first = opened(tmp_path / "a")
    for number in range(12):
        stage(first, f"stage {number}", f"file{number}", str(number))
    second = opened(tmp_path / "b")
    assert server.failed > 5
    assert [(second.root / f"file{n}").read_text() for n in range(12)] == [str(n) for n in range(12)]
    assert all(Manifest(second.root).done(f"stage {n}", "inputs") for n in range(12))


@pytest.mark.faults
def test_large_file_goes_in_parts_while_requests_fail(server, tmp_path):
    server.every = 3
    first = opened(tmp_path / "a")
    blob = bytes(range(256)) * (110 * 2**20 // 256)
    (first.root / "model").write_bytes(blob)
    first.push()
    assert sum("partNumber" in path for _, path in server.requests) >= 3
    second = opened(tmp_path / "b")
    assert (second.root / "model").read_bytes() == blob


def test_uploads_go_on_during_a_stage_and_at_an_error(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PERIOD", 0.05)
    mirror = opened(tmp_path)

    def work() -> None:
        with mirror.kept():
            write(mirror, checkpoint="step 1")
            until = time.monotonic() + 30
            while "one/checkpoint" not in server.names() and time.monotonic() < until:
                time.sleep(0.05)
            assert "one/checkpoint" in server.names()
            write(mirror, last="words")
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert "one/last" in server.names()


@pytest.mark.faults
def test_no_bucket_no_rights_no_credentials_no_server(server, tmp_path, monkeypatch):
    missing = opened(tmp_path / "a", "s3://nowhere/run", retries=0)
    write(missing, config="c")
    with pytest.raises(OutputError, match="no such bucket") as found:
        missing.push()
    assert "create the bucket" in found.value.remedy

    server.refused = frozenset({"PUT"})
    refused = opened(tmp_path / "b")
    write(refused, config="c")
    with pytest.raises(OutputError, match="access refused") as found:
        refused.push()
    assert "PutObject" in found.value.remedy

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(OutputError, match="no credentials") as found:
        opened(tmp_path / "c")
    assert "AWS_PROFILE" in found.value.remedy

    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(OutputError, match="again and again"):
        opened(tmp_path / "d", retries=0)


def test_passwords_foreign_files_and_two_at_once_are_refused(server, tmp_path):
    with pytest.raises(OutputError, match="credentials do not belong") as found:
        Mirror("s3://key:secret@bucket/run", str(tmp_path))
    assert "secret" not in found.value.problem

    server.client.put_object(Bucket="runs", Key="thesis/a.tex", Body=b"years of work")
    with pytest.raises(OutputError, match="no run's"):
        opened(tmp_path, "s3://runs/thesis")

    held = opened(tmp_path, "s3://runs/two")
    with pytest.raises(OutputError, match="another process"):
        Mirror("s3://runs/two", str(tmp_path))
    closed(held)
    opened(tmp_path, "s3://runs/two")


def test_index_that_leads_out_of_the_run_is_refused(server, tmp_path):
    for name in ("../../evil", "/etc/evil", "a/.lock"):
        index = json.dumps({"schema": 1, "files": {name: {"bytes": 1, "blake2b": "x"}}})
        server.client.put_object(Bucket="runs", Key="bad/files.json", Body=index.encode())
        mirror = Mirror("s3://runs/bad", str(tmp_path))
        with pytest.raises(OutputError, match="no file of a run"):
            mirror.fetch()
        closed_without_push(mirror)
