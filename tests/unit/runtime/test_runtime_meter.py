"""Hours that a cluster held, as its nodes come and go."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.exceptions import RayError

from xalign_dist.pipeline.manifest import Manifest
from xalign_dist.runtime.meter import Meter


class World:
    """A clock that is set and a cluster that is changed by hand."""

    def __init__(self) -> None:
        self.now, self.there = 0.0, {"CPU": 4.0}
        self.broken = False

    def read(self) -> dict[str, float]:
        if self.broken:
            raise RayError("gone")
        return self.there


def test_hours_follow_the_nodes_that_are_there() -> None:
    world = World()
    meter = Meter(world.read, lambda: world.now)
    world.now = 1800
    world.there = {"CPU": 20.0, "GPU": 8.0}
    assert meter.hours() == pytest.approx({"cpu_hours": 2, "gpu_hours": 0})
    world.now = 5400
    world.broken = True  # no answer: what was there is counted on
    assert meter.hours() == pytest.approx({"cpu_hours": 22, "gpu_hours": 8})
    world.now = 7200
    world.broken, world.there = False, {}
    assert meter.hours() == pytest.approx({"cpu_hours": 32, "gpu_hours": 12})
    world.now = 36000
    assert meter.hours() == pytest.approx({"cpu_hours": 32, "gpu_hours": 12})


def test_a_stage_is_charged_what_was_held_while_it_ran(tmp_path: Path) -> None:
    world = World()
    meter = Meter(world.read, lambda: world.now)
    manifest = Manifest(tmp_path)
    manifest.meter = meter.hours
    world.now = 900  # before the stage: nobody's

    def work() -> dict[str, int]:
        world.now += 3600
        return {"pairs": 3}

    manifest.run("score", "a", [], work)
    stage = Manifest(tmp_path).stages["score"]
    assert (stage["cpu_hours"], stage["gpu_hours"]) == (4.0, 0.0)
    manifest.run("score", "a", [], work)  # skipped: nothing is added
    assert Manifest(tmp_path).stages["score"] == stage
