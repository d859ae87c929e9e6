"""report.html of a sweep: one offline file, in the style and from the parts of a run's report."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

import xalign_dist
from tuning.knobs import interactions, knobs
from tuning.statement import headline
from xalign_dist.errors import DataError
from xalign_dist.reporting import formats
from xalign_dist.reporting.files import join, read_json, write_text
from xalign_dist.reporting.templating import environment

REPORT_FILE, TRIALS_FILE = "report.html", "trials.json"
_SECTIONS = [
    ("finalists", "Finalists"),
    ("knobs", "Settings"),
    ("pairs", "Interactions"),
    ("trials", "Trials"),
]


def write_sweep_report(out: str) -> str:
    """Write ``out``/report.html from ``out``/trials.json and give back its path.

    Raises:
        DataError: no sweep there, or it is damaged.
        OutputError: the report cannot be written.
    """
    data = read_json(join(out, TRIALS_FILE))
    if data is None:
        raise DataError(
            f"{join(out, TRIALS_FILE)}: no such file", "give the --out of a sweep that has run: xalign sweep"
        )
    try:
        html = render(data, out)
    except (KeyError, TypeError) as err:
        raise DataError(
            f"{join(out, TRIALS_FILE)}: {type(err).__name__} {err}", "run the sweep's command again"
        ) from err
    path = join(out, REPORT_FILE)
    write_text(path, html)
    return path


def render(data: dict[str, Any], out: str) -> str:
    """The report as HTML."""
    names = list(data["parameters"])
    valued = [t for t in data["trials"] if t["value"] is not None]
    plots = knobs(valued, names, data["mode"]) if len(valued) > 1 else []
    folder = files("xalign_dist.reporting") / "templates"
    css, js = ((folder / name).read_text("utf-8") for name in ("report.css", "report.js"))
    head = headline(data.get("comparisons") or [])
    said = list(data.get("statement") or [])
    context = {
        "version": xalign_dist.__version__,
        "css": css,
        "js": js,
        "style_hash": _csp_hash(css),
        "script_hash": _csp_hash(js),
        "sections": _SECTIONS,
        "out": out,
        "name": out.rstrip("/").rsplit("/", 1)[-1],
        "facts": _facts(data),
        "metric": data["metric"],
        "names": names,
        "trials": data["trials"],
        "plots": plots,
        "heats": interactions(valued, [p.name for p in plots]),
        "finalists": data.get("finalists") or [],
        "seeds": max((len(f["values"]) for f in data.get("finalists") or []), default=0),
        "headline": head,
        "tone": {"better": "good", "worse": "bad"}.get(head.verdict, "mixed") if head else "mixed",
        "said": said,
        "short": _short,
    }
    return environment().get_template("sweep.html").render(context)


def _facts(data: dict[str, Any]) -> list[str]:
    trials = data["trials"]
    out = [f"{len(trials)} trials", f"{sum(t['ended'] for t in trials)} ran to their end"]
    failed = sum(bool(t["error"]) for t in trials)
    if failed:
        out.append(f"{failed} failed")
    replaced = sum(bool(t.get("replaced")) for t in trials)
    if replaced:
        out.append(f"{replaced} replaced on the way")
    out.append(f"{formats.seconds(sum(t['seconds'] for t in trials))} of trial time")
    if data.get("budget"):
        out.append(f"budget {data['budget']}")
    return out


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
