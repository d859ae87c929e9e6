"""Stages of a run as events: when each began and ended, what it counted, which round it was of."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from xalign_dist.errors import DataError
from xalign_dist.pipeline.console import Advance, Screen, run_stage
from xalign_dist.pipeline.manifest import Manifest
from xalign_dist.runtime.logs import events


def story(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_stage_says_what_it_did_and_the_next_time_that_it_was_done(tmp_path: Path) -> None:
    screen, manifest = Screen(False, Console(file=io.StringIO())), Manifest(tmp_path)

    def work(advance: Advance) -> dict[str, Any]:
        advance(30)
        advance(12, "a note")
        return {"pairs": 40, "left_out": 2}

    def fails(advance: Advance) -> dict[str, Any]:
        advance(5)
        raise DataError("no pair is left", "add text")

    with events(tmp_path / "e.jsonl", "my-run"):
        for _ in range(2):
            run_stage(screen, manifest, "round 3: mine", "round 3: mine it all", "i", [], work, unit="pairs")
        with pytest.raises(DataError):
            run_stage(screen, manifest, "clean", "clean the corpora", "i", [], fails)
    began, ended, skipped, _, failed = story(tmp_path / "e.jsonl")
    for event in (began, ended, skipped):
        assert (event["run"], event["stage"], event["round"]) == ("my-run", "round 3: mine", 3)
    assert [e["message"] for e in (began, ended, skipped)] == ["stage began", "stage ended", "stage skipped"]
    assert (ended["done"], ended["unit"], ended["counts"]) == (42, "pairs", {"pairs": 40, "left_out": 2})
    assert 0 <= ended["seconds"] < 60
    assert (failed["stage"], failed["round"], failed["done"]) == ("clean", None, 5)
    assert failed["message"].startswith("stage failed: DataError: no pair is left")
