"""What a person sees of a stage: on a terminal, in a log, and at its end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from xalign_dist.pipeline import console as console_module
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.train import _shown


def screen(terminal: bool, enabled: bool = True) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=160, highlight=False)
    return Screen(enabled, console), out


def step(**figures: float) -> dict[str, float]:
    return {"pairs_per_second": 100.0, "loss": 0.5, "accuracy": 0.9, "skipped": False, **figures}


def test_a_terminal_shows_pairs_per_second_loss_and_time_left() -> None:
    shown, out = screen(terminal=True)
    with shown.stage("train", 4, "steps") as advance:
        on_step = _shown(advance)
        on_step(step())
        on_step(step(pairs_per_second=200.0, loss=0.25))
    text = out.getvalue()
    # The rate is smoothed: 100, then a tenth of the way to 200.
    assert "110 pairs/s, loss 0.250, accuracy 0.90" in text
    assert "2/4" in text
    assert text.splitlines()[-1].count("110 pairs/s") == 1


def test_a_log_hears_now_and_then_how_far_a_stage_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(console_module.time, "time", lambda: next(clock))
    for enabled in (True, False):
        shown, out = screen(terminal=False, enabled=enabled)
        with shown.stage("train", 100, "steps") as advance:
            for _ in range(5):
                advance(10, "110 pairs/s, loss [0.5]")
        lines = out.getvalue().splitlines()
        beats = [line for line in lines if "left" in line]
        assert bool(beats) == enabled
        assert all("of 100 steps, 110 pairs/s, loss [0.5], about 0:" in line for line in beats)
        assert lines[-1].startswith("done  train  50 steps")


def test_skipped_steps_stay_in_sight() -> None:
    notes: list[str] = []
    on_step = _shown(lambda rows, note="": notes.append(note))
    for skipped in (False, True, False):
        on_step(step(skipped=skipped))
    assert ["skipped" in note for note in notes] == [False, True, True]
    assert notes[-1].endswith("1 skipped")
