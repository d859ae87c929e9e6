"""Everything the report shows, read from a run directory; what is not there is empty, never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from xalign_dist.errors import DataError
from xalign_dist.evaluation.metrics import read_metrics
from xalign_dist.records import ENGLISH, Metric
from xalign_dist.reporting.differences import Difference
from xalign_dist.reporting.files import join, list_names, read_json, read_json_lines, read_rows, read_text

PROJECTION_COLUMNS = ["model", "method", "lang", "group", "text", "x", "y"]
EXAMPLE_COLUMNS = ["lang", "kind", "query", "expected", "before", "after"]
# Name of the model behind `before`.
EXAMPLE_OPTIONAL = ["baseline"]
LEDGER_EVENTS = ("enter", "gain", "stay", "lose", "leave")

_ROUND = re.compile(r"round=(\d+)")


@dataclass(frozen=True)
class RunData:
    """The contents of a run directory.

    Attributes:
        run: path or URI.
        config_text: RUN/config.yaml as it stands, None if missing.
        config: the same, parsed.
        manifest: RUN/manifest.json.
        metrics: rows of RUN/metrics.json.
        differences: rows of RUN/comparisons.json.
        ablation: rows of RUN/ablation.json.
        audits: per round, the entries of RUN/pairs/round=K/audit.json.
        ledgers: per round, labels by event (``enter``, ``gain``, ``stay``, ``lose``, ``leave``).
        telemetry: per arm, the figures of every step.
        projection: rows of RUN/projection.parquet.
        examples: rows of RUN/examples.parquet.
    """

    run: str
    config_text: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    ablation: list[Difference] = field(default_factory=list)
    audits: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    ledgers: dict[int, dict[str, int]] = field(default_factory=dict)
    telemetry: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    projection: list[dict[str, Any]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Finished stages by name."""
        return dict(self.manifest.get("stages") or {})

    @property
    def name(self) -> str:
        """The last part of the run's path."""
        return self.run.rstrip("/").rsplit("/", 1)[-1]


def load_run(run: str) -> RunData:
    """Read a run directory, local or at a URI.

    Raises:
        DataError: no such directory, nothing of a run in it, or a damaged file (which one is named).
    """
    run = str(run)
    names = list_names(run)
    if not names:
        raise DataError(f"{run}: no such run directory, or it is empty", "give the --out of a run")
    config_text = read_text(join(run, "config.yaml"))
    rounds = {int(m[1]): n for n in list_names(join(run, "pairs")) if (m := _ROUND.fullmatch(n))}
    return RunData(
        run=run,
        config_text=config_text,
        config=_config(config_text, run),
        manifest=read_json(join(run, "manifest.json")) or {},
        metrics=read_metrics(join(run, "metrics.json")) if "metrics.json" in names else [],
        differences=_differences(join(run, "comparisons.json")),
        ablation=_differences(join(run, "ablation.json")),
        audits={k: a for k, n in sorted(rounds.items()) if (a := _audit(run, n))},
        ledgers={k: e for k, n in sorted(rounds.items()) if (e := _ledger(run, n))},
        telemetry=_telemetry(run),
        projection=read_rows(join(run, "projection.parquet"), PROJECTION_COLUMNS) or [],
        examples=read_rows(join(run, "examples.parquet"), EXAMPLE_COLUMNS, EXAMPLE_OPTIONAL) or [],
    )


def language_groups(data: RunData) -> dict[str, str]:
    """Language -> ``high`` (has parallel text) or ``low`` (only mined); others are not trained on.

    Parallel text is what an audit entry with a noise rate or a corpus of kind ``pairs`` shows.
    """
    high: set[str] = set()
    low: set[str] = set()
    for entry in (e for entries in data.audits.values() for e in entries):
        parallel = entry.get("noise_estimated") is not None
        (high if parallel else low).update((entry["src_lang"], entry["tgt_lang"]))
    for corpus in data.config.get("corpora") or []:
        found = {corpus.get("src_lang"), corpus.get("tgt_lang")} - {None}
        (high if corpus.get("kind", "pairs") == "pairs" else low).update(found)
    groups = {**dict.fromkeys(low, "low"), **dict.fromkeys(high, "high")}
    groups.pop(ENGLISH, None)
    return groups


def _config(text: str | None, run: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as err:
        raise DataError(f"{join(run, 'config.yaml')}: not YAML ({err})", "restore the file") from err
    return found if isinstance(found, dict) else {}


def _differences(path: str) -> list[Difference]:
    rows = (read_json(path) or {}).get("comparisons", [])
    return [Difference.from_json(row, f"{path}: comparisons[{i}]") for i, row in enumerate(rows)]


def _audit(run: str, folder: str) -> list[dict[str, Any]]:
    path = join(run, "pairs", folder, "audit.json")
    entries = list((read_json(path) or {}).get("entries", []))
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not {"src_lang", "tgt_lang"} <= entry.keys():
            raise DataError(f"{path}: entries[{number}] names no language pair", "run `xalign score` again")
    return entries


def _ledger(run: str, folder: str) -> dict[str, int]:
    found = read_json(join(run, "pairs", folder, "ledger.json")) or {}
    events = found.get("events", found)
    return {name: int(events.get(name) or 0) for name in LEDGER_EVENTS} if events else {}


def _telemetry(run: str) -> dict[str, list[dict[str, Any]]]:
    names = [n for n in list_names(join(run, "telemetry")) if n.endswith(".jsonl")]
    found = {n.removesuffix(".jsonl"): read_json_lines(join(run, "telemetry", n)) for n in names}
    return {name: rows for name, rows in found.items() if rows}
