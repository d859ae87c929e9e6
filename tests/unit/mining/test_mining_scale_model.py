"""The arithmetic of benchmarks/scale.py against figures worked out by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from xalign_dist.mining.plan import index_bytes

FILE = Path(__file__).parents[3] / "benchmarks" / "scale_model.py"


@pytest.fixture(scope="module")
def model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale_model", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules["scale_model"] = module
    spec.loader.exec_module(module)
    return module


def machine(model: ModuleType, memory: float = 1e12, disk: float = 1e15) -> object:
    return model.Machine("m", cores=10, memory=memory, network=1e9, disk=disk, embed_times=10)


def unit(model: ModuleType) -> object:
    build = {"flat": 1e-10, "hnsw": 1e-7, "ivfpq": 1e-9}
    search = {"flat": 1e-11, "hnsw": 1e-7, "ivfpq": 1e-9}
    return model.Unit(embed=100.0, build=build, search=search, merge=1e-9, write=1e9)


def test_flat_search_is_all_by_all_both_ways(model: ModuleType) -> None:
    job = model.Job(2e6, 3e6, dim=100)
    build, search = model.search_seconds(job, "flat", unit(model), 1)
    assert build == pytest.approx(1e-10 * (3e6 + 2e6) * 100)
    assert search == pytest.approx(2 * 1e-11 * 2e6 * 3e6 * 100)
    # Shards share the work and do no more of it.
    assert model.search_seconds(job, "flat", unit(model), 5) == (pytest.approx(build), pytest.approx(search))


def test_a_bill_by_hand(model: ModuleType) -> None:
    job = model.Job(1e6, 1e6, dim=100, k=10, views=1)
    found = model.bill(job, "flat", unit(model), machine(model), nodes=2)
    assert found.disk == 2e6 * (400 + 120)
    assert found.network == 2e6 * 2 * (400 + 120)
    assert found.memory == index_bytes(500_000, 100, "flat")
    hours = {name: 3600 * value for name, value in found.hours.items()}
    assert hours["embed"] == pytest.approx(2e6 / (100 * 10 * 2))
    assert hours["search"] == pytest.approx(2 * 1e-11 * 1e12 * 100 / 20)
    assert hours["merge"] == pytest.approx(2e6 * 2 * 10 * 1e-9 / 20)
    assert hours["network"] == pytest.approx(found.network / 2e9)
    assert hours["disk"] == pytest.approx(found.disk / 2e9)
    assert found.total == pytest.approx(sum(hours.values()) / 3600)
    alone = model.bill(job, "flat", unit(model), machine(model), nodes=1)
    assert alone.network == 0


def test_nodes_are_the_least_that_hold_it(model: ModuleType) -> None:
    job = model.Job(1e7, 1e7, dim=100, views=1)
    for kind in model.KINDS:
        nodes = model.nodes_needed(job, kind, machine(model, memory=2e9))
        assert index_bytes(-(-(10**7) // nodes), 100, kind) <= 1e9
        assert nodes == 1 or index_bytes(-(-(10**7) // (nodes - 1)), 100, kind) > 1e9
    by_disk = model.nodes_needed(job, "flat", machine(model, disk=2e9))
    assert by_disk == -(-model.disk_bytes(job) // 2e9)
    with pytest.raises(ValueError, match="no number of nodes"):
        model.nodes_needed(job, "flat", machine(model, memory=100))


def test_the_cheapest_is_flat_for_little_and_not_for_much(model: ModuleType) -> None:
    assert model.cheapest(model.Job(1e4, 1e4), unit(model), machine(model), 1).kind == "flat"
    assert model.cheapest(model.Job(1e8, 1e8), unit(model), machine(model), 8).kind != "flat"
