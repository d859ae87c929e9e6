"""Run directories: claimed by one config, written whole, stages skipped when done."""

from __future__ import annotations

import json

import pytest

from xalign_dist.config import load_config
from xalign_dist.errors import OutputError
from xalign_dist.pipeline.manifest import Manifest, digest, file_digest
from xalign_dist.pipeline.rundir import RunDir, publish_model, write_text


def config(*overrides: str):
    return load_config(None, ["corpora=[{path: a.parquet}]", *overrides])


def test_same_config_continues_and_another_is_refused(tmp_path):
    RunDir.open(str(tmp_path / "run"), config())
    RunDir.open(str(tmp_path / "run"), config())
    with pytest.raises(OutputError, match=r"training\.steps"):
        RunDir.open(str(tmp_path / "run"), config("training.steps=9"))


def test_how_it_runs_may_change(tmp_path):
    RunDir.open(str(tmp_path / "run"), config())
    RunDir.open(str(tmp_path / "run"), config("runtime.embed_batch=8", "runtime.max_failures=0"))


def test_foreign_files_are_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="no run's"):
        RunDir.open(str(tmp_path), config())
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_unwritable_place_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be created"):
        RunDir.open(str(tmp_path / "file" / "run"), config())


def test_finished_stage_is_skipped_and_others_are_not(tmp_path):
    done = []

    def work():
        done.append(1)
        (tmp_path / "out.txt").write_text("x")
        return {"rows": 5}

    outputs = [tmp_path / "out.txt"]
    assert Manifest(tmp_path).run("stage", "a", outputs, work) == {"rows": 5}
    assert Manifest(tmp_path).run("stage", "a", outputs, work) == {"rows": 5}
    assert len(done) == 1
    Manifest(tmp_path).run("stage", "b", outputs, work)
    assert len(done) == 2, "other inputs: it must run again"
    (tmp_path / "out.txt").unlink()
    Manifest(tmp_path).run("stage", "b", outputs, work)
    assert len(done) == 3, "its output is gone: it must run again"


def test_failed_stage_is_not_recorded(tmp_path):
    def work():
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        Manifest(tmp_path).run("stage", "a", [], work)
    assert not Manifest(tmp_path).done("stage", "a")


def test_damaged_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(OutputError, match="damaged"):
        Manifest(tmp_path)


def test_manifest_records_versions_and_seconds(tmp_path):
    Manifest(tmp_path).run("stage", "a", [], dict)
    data = json.loads((tmp_path / "manifest.json").read_text())
    assert data["versions"]["ray"].startswith("2.")
    assert data["stages"]["stage"]["seconds"] >= 0


def test_write_text_replaces_whole(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "one")
    write_text(tmp_path / "a" / "b.txt", "two")
    assert (tmp_path / "a" / "b.txt").read_text() == "two"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_publish_replaces_an_older_model(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text(name)
        publish_model(tmp_path / name, tmp_path / "model")
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["new.txt"]


def test_digests_follow_content(tmp_path):
    (tmp_path / "f").write_text("a")
    before = file_digest(tmp_path / "f")
    (tmp_path / "f").write_text("b")
    assert file_digest(tmp_path / "f") != before
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
