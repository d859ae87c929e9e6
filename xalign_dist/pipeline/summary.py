"""The end of a run on the console: the tables, the places, three lines that use the model."""

from __future__ import annotations

from pathlib import Path

from xalign_dist.pipeline.console import Screen
from xalign_dist.reporting.console import print_where, run_tables


def show_summary(run: Path, screen: Screen) -> None:
    """Print what the run found and where its results lie."""
    for table in run_tables(str(run)):
        screen.say("", table)
    print_where(str(run), screen.console)
