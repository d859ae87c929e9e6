"""Stage: a run directory in, report.html and the model card out."""

from __future__ import annotations

from pathlib import Path

from xalign_dist.errors import DataError
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.context import RunContext
from xalign_dist.pipeline.rundir import local_only, write_text
from xalign_dist.reporting.against import compare_runs
from xalign_dist.reporting.model_card import model_card
from xalign_dist.reporting.report import write_report


def report_run(context: RunContext) -> str:
    """Write report.html and the model's README.md anew (it takes a second); the report's path."""
    with context.screen.stage("write the report"):
        root = str(context.run.root)
        if context.run.model.exists():
            write_text(context.run.model / "README.md", model_card(root))
        return write_report(root)


def report_directory(run: str) -> str:
    """Write the report of a run directory that is no longer open; its path.

    Raises:
        DataError: no run there.
        OutputError: a URI.
    """
    local_only(run, "report")
    if not (Path(run) / "manifest.json").exists():
        whole = next(iter(sorted(Path(run).glob("seed=*/full"))), None)
        remedy = "give the --out of an `xalign run`"
        if whole is not None:
            remedy = f"of an ablation the report is that of its full arm: give {whole}"
        raise DataError(f"{run}: no run directory (no manifest.json)", remedy)
    return write_report(run)


def compare_with(run: str, other: str, screen: Screen) -> bool:
    """Print ``run`` against ``other``; True when ``run`` is significantly worse somewhere."""
    comparison = compare_runs(run, other)
    screen.say(comparison.table())
    return comparison.significant_loss
