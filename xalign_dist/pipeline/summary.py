"""The end of a run on the console: the tables, the places, three lines that use the model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from xalign_dist.pipeline.console import Screen
from xalign_dist.reporting.console import print_where, run_tables, summary_tables
from xalign_dist.scoring import read_audit


def show_summary(run: Path, screen: Screen) -> None:
    """Print what the run found and where its results lie."""
    for table in run_tables(str(run)):
        screen.say("", table)
    print_where(str(run), screen.console)


def show_audit(folder: str, screen: Screen) -> None:
    """Print the audit that `xalign score` or `xalign mine` wrote into ``folder``."""
    entries = [asdict(entry) for entry in read_audit(Path(folder) / "audit.json")]
    for table in summary_tables([], audits={1: entries}):
        screen.say("", table)
