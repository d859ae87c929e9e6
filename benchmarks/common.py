"""What all benchmarks share: arguments, development data, interleaved timing, table, JSON, the machine.

A benchmark is ``python benchmarks/NAME.py [--quick] [--json FILE]``; its JSON is a list of
``{name, ours, peer, ratio, unit, n, machine}``, where ``ratio`` above 1 (or below, where ``unit`` is a
cost) is ours ahead, and ``peer`` is null where a figure stands alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

#: Environment variable that names the folder of the development data.
DATA = "XALIGN_DATA"
_PACKAGES = ("torch", "transformers", "sentence-transformers", "ray", "deepspeed", "faiss-cpu")


@dataclass(frozen=True)
class Row:
    """One line of a benchmark. ``goal`` is what it must show, in words; it stays out of the JSON.

    Attributes:
        name: what was measured.
        ours, peer: the two figures, in ``unit``; ``peer`` None: a figure alone.
        unit: of both, e.g. ``pairs/s``.
        n: repetitions (or items) behind the figures.
        goal: e.g. ``at least 2.3``.
    """

    name: str
    ours: float
    peer: float | None
    unit: str
    n: int
    goal: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over peer; None without a peer."""
        return None if not self.peer else self.ours / self.peer


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with ``--quick`` and ``--json``; benchmarks add their own arguments."""
    out = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out.add_argument("--quick", action="store_true", help="fewer repetitions and smaller sizes: minutes")
    out.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as JSON")
    return out


def data_folder() -> Path | None:
    """The development data, or None where ``XALIGN_DATA`` is not set."""
    value = os.environ.get(DATA)
    return Path(value) if value else None


def data_file(name: str) -> Path:
    """A file of the development data; ends the benchmark with a clear message where it is missing."""
    folder = data_folder()
    if folder is None:
        sys.exit(f"This benchmark reads {name}: set {DATA} to the folder that holds it.")
    if not (folder / name).exists():
        sys.exit(f"{folder / name} is missing: {DATA} must name the folder that holds it.")
    return folder / name


def interleaved(arms: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Each arm's measurements, taken in turns, so that a slow minute of the machine meets all arms."""
    seen: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(repeats):
        # Back and forth: no arm always follows the same other one.
        for name in list(arms) if turn % 2 == 0 else list(arms)[::-1]:
            seen[name].append(arms[name]())
    return seen


def medians(seen: dict[str, list[float]]) -> dict[str, float]:
    """The median of each arm."""
    return {name: statistics.median(values) for name, values in seen.items()}


def machine() -> dict[str, str | int | float]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": _gpu(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: found for name in _PACKAGES if (found := _version(name))},
    }


def finish(title: str, rows: Sequence[Row], file: Path | None) -> None:
    """Print the table and, with ``file``, write the JSON (atomically)."""
    about = machine()
    table = Table(title=title, caption=", ".join(f"{k} {v}" for k, v in about.items()))
    table.add_column("what", overflow="fold")
    for heading in ("ours", "peer", "ratio", "unit", "n"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    table.add_column("goal")
    for row in rows:
        table.add_row(
            row.name, *map(_number, (row.ours, row.peer, row.ratio)), row.unit, str(row.n), row.goal
        )
    Console().print(table)
    if file is not None:
        write_json(rows, about, file)


def write_json(rows: Sequence[Row], about: dict[str, str | int | float], file: Path) -> None:
    """Rows as the list that the module's text describes."""
    out = []
    for row in rows:
        fields = asdict(row)
        del fields["goal"]
        out.append({**fields, "ratio": row.ratio, "machine": about})
    aside = file.with_name(file.name + ".writing")
    aside.write_text(json.dumps(out, indent=1), "utf-8")
    aside.replace(file)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpu() -> str:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return "none"
    return str(torch.cuda.get_device_name(0))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
