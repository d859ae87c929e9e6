"""What a person sees while stages run: one line a stage, with rows, rows/s and time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
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
from xalign_dist.runtime.logs import skipped_event, stage_events
from xalign_dist.runtime.metrics import observe

#: Seconds between lines about a stage where nobody watches a terminal.
HEARTBEAT = 60.0


class Advance(Protocol):
    """Tells the screen that more items are done."""

    def __call__(self, rows: int, note: str = "") -> None:
        """``rows`` more; ``note`` is shown beside the bar, and the last one at the stage's end."""
        ...


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
        self.enabled = enabled
        self.live = enabled and self.console.is_terminal

    def say(self, *lines: Any) -> None:
        """Print renderables as they are."""
        for line in lines:
            self.console.print(line, soft_wrap=isinstance(line, str))

    @contextlib.contextmanager
    def stage(
        self,
        title: str,
        total: int | None = None,
        unit: str = "rows",
        name: str | None = None,
        counts: Mapping[str, Any] | None = None,
    ) -> Iterator[Advance]:
        """Live progress on a terminal, one closing line anywhere, events in the log, rows for Prometheus.

        Args:
            title: what a person reads.
            total: items that there are; None: not known.
            unit: of the items.
            name: what the log and Prometheus call the stage; None: its title.
            counts: goes into the log, as it is when the stage ends.
        """
        figures: dict[str, Any] = {}
        with stage_events(name or title, figures):
            count = 0
            with self._progress(title, total, unit) as advance:

                def counted(rows: int, note: str = "") -> None:
                    nonlocal count
                    count += rows
                    observe("xalign_rows", rows, stage=name or title)
                    figures.update({"done": count, "unit": unit} if count else {})
                    advance(rows, note)

                yield counted
            figures.update({"counts": counts} if counts else {})

    @contextlib.contextmanager
    def _progress(self, title: str, total: int | None, unit: str) -> Iterator[Advance]:
        started, count, last = time.time(), 0, ""
        said = started
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            _Speed(),
            TextColumn("{task.fields[note]}", style="dim"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.live,
        )
        with bar:
            task = bar.add_task(title, total=total, unit=unit, note="")

            def advance(rows: int, note: str = "") -> None:
                nonlocal count, last, said
                count, last = count + rows, note or last
                bar.update(task, advance=rows, note=escape(last))
                if self.enabled and not self.live and time.time() - said >= HEARTBEAT:
                    said = time.time()
                    self._heartbeat(title, count, total, unit, said - started, last)

            yield advance
        seconds = time.time() - started
        speed = f", {_rate(count / seconds)} {unit}/s" if count and seconds > 0 else ""
        speed += f", {escape(last)}" if last else ""
        amount = f"  {count:,} {unit}" if count else ""
        self.console.print(f"[green]done[/]  {title}{amount}  [dim]{seconds:.1f} s{speed}[/]", soft_wrap=True)

    def _heartbeat(
        self, title: str, count: int, total: int | None, unit: str, seconds: float, note: str
    ) -> None:
        left = ""
        if total is not None and 0 < count < total:
            left = f", about {timedelta(seconds=round(seconds * (total - count) / count))} left"
        amount = f"{count:,} of {total:,}" if total is not None else f"{count:,}"
        noted = f", {escape(note)}" if note else ""
        self.console.print(f"      {title}: {amount} {unit}{noted}{left}", soft_wrap=True)

    def skipped(self, title: str, name: str | None = None) -> None:
        """Say that a stage was already finished."""
        skipped_event(name or title)
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
        screen.skipped(title, name)
        return dict(manifest.stages[name]["counts"])
    counts: dict[str, Any] = {}
    with screen.stage(title, total, unit, name, counts) as advance:
        counts.update(manifest.run(name, inputs, outputs, lambda: work(advance)))
    return counts
