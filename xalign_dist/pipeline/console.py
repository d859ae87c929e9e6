"""What a person sees while stages run: one line a stage, with rows, rows/s and time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as ProgressTask
from rich.text import Text

from xalign_dist.pipeline.manifest import Manifest

Advance = Callable[[int], None]


class _Speed(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: ProgressTask) -> Text:
        """Items per second, blank before the first."""
        unit = task.fields.get("unit", "rows")
        return Text(f"{_rate(task.speed)} {unit}/s" if task.speed else "", style="dim")


def _rate(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"


class Screen:
    """The console of one run. ``enabled=False`` prints only a line at each stage's end."""

    def __init__(self, enabled: bool = True, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.live = enabled and self.console.is_terminal

    def say(self, *lines: Any) -> None:
        """Print renderables as they are."""
        for line in lines:
            self.console.print(line, soft_wrap=isinstance(line, str))

    @contextlib.contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "rows") -> Iterator[Advance]:
        """Live progress on a terminal, and one closing line anywhere."""
        started, count = time.time(), 0
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            _Speed(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        with bar:
            task = bar.add_task(title, total=total, unit=unit)

            def advance(rows: int) -> None:
                nonlocal count
                count += rows
                bar.advance(task, rows)

            yield advance
        seconds = time.time() - started
        speed = f", {_rate(count / seconds)} {unit}/s" if count and seconds > 0 else ""
        amount = f"  {count:,} {unit}" if count else ""
        self.console.print(f"[green]done[/]  {title}{amount}  [dim]{seconds:.1f} s{speed}[/]", soft_wrap=True)

    def skipped(self, title: str) -> None:
        """Say that a stage was already finished."""
        self.console.print(f"[dim]skip  {title}  (finished earlier)[/]")


def run_stage(
    screen: Screen,
    manifest: Manifest,
    name: str,
    title: str,
    inputs: str,
    outputs: list[Any],
    work: Callable[[Advance], dict[str, Any]],
    total: int | None = None,
    unit: str = "rows",
) -> dict[str, Any]:
    """Manifest and screen together: skip, or show progress, do the work, and record it."""
    if manifest.done(name, inputs):
        screen.skipped(title)
        return dict(manifest.stages[name]["counts"])
    with screen.stage(title, total, unit) as advance:
        return manifest.run(name, inputs, outputs, lambda: work(advance))
