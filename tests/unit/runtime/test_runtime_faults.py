"""Errors of workers: ours as raised, others as a failed stage."""

from __future__ import annotations

import pytest
from ray.exceptions import RayTaskError

from xalign_dist.errors import DataError, ModelError, StageError
from xalign_dist.runtime.faults import for_workers, pack_error, unpack_error, users_errors


def test_ours_comes_out_of_rays_wrapper():
    with pytest.raises(DataError, match="row 7") as found, users_errors():
        raise RayTaskError("work", "long account", DataError("a.tsv, row 7", "mend it"))
    assert type(found.value) is DataError
    assert str(found.value) == "a.tsv, row 7\n  remedy: mend it"


def test_ours_is_found_below_other_causes():
    inner = ValueError("outer")
    inner.__cause__ = ModelError("m: no weights", "give safetensors")
    with pytest.raises(ModelError, match="no weights"), users_errors():
        raise RayTaskError("work", "long account", inner)


def test_others_are_a_failed_stage():
    with pytest.raises(StageError, match="a worker failed"), users_errors():
        raise RayTaskError("work", "Traceback\nZeroDivisionError: 1/0", ZeroDivisionError("1/0"))


def test_what_is_not_rays_passes_unchanged():
    with pytest.raises(KeyError), users_errors():
        raise KeyError("x")


def test_errors_travel_as_data():
    again = unpack_error(pack_error(ModelError("e6: no such", "use e5")))
    assert (type(again), again.problem, again.remedy) == (ModelError, "e6: no such", "use e5")
    assert type(unpack_error('["os", "p", "r"]')) is StageError


def test_paths_are_absolute_for_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("")
    assert for_workers("a.txt") == str(tmp_path / "a.txt")
    for name in ("s3://bucket/a.txt", "builtin:e5-small?layers=2", "memory://a"):
        assert for_workers(name) == name
    assert for_workers("intfloat/multilingual-e5-small") == "intfloat/multilingual-e5-small"
