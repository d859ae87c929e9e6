"""What stages and training count can be read where Prometheus reads it, under the names of the dashboard."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path

import pytest
import ray

from xalign_dist.pipeline.console import Advance, Screen, run_stage
from xalign_dist.pipeline.manifest import Manifest
from xalign_dist.runtime.metrics import FIGURES, observe, observe_shards, observe_step

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.usefixtures("ray_session")]

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana" / "xalign.json"


def _offered() -> str:
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def _names() -> set[str]:
    expressions = [t["expr"] for p in json.loads(DASHBOARD.read_text())["panels"] for t in p["targets"]]
    return {name for text in expressions for name in re.findall(r"ray_xalign_\w+", text)}


def test_the_dashboard_shows_every_figure_and_no_other() -> None:
    assert _names() == {f"ray_{name}" + ("_total" if f.grows else "") for name, f in FIGURES.items()}


def test_figures_are_offered_by_the_node(tmp_path: Path) -> None:
    step = {"step": 7, "loss": 1.5, "pairs_per_second": 321.0, "data_wait_share": 0.1, "padding_share": 0.2}
    observe_step({**step, "accuracy": 0.9, "tau": 0.06, "gradient_norm": 1.0})
    observe_step({**step, "loss": float("nan")})
    observe_shards([40, 41])
    observe("xalign_noise_share", 0.25, src_lang="eng", tgt_lang="deu", source="web")

    def work(advance: Advance) -> dict[str, int]:
        advance(30)
        advance(12)
        return {"rows": 42}

    run_stage(Screen(enabled=False), Manifest(tmp_path), "score", "score the pairs", "inputs", [], work)
    deadline, text = time.monotonic() + 60, ""
    while not all(name in text for name in _names()):
        assert time.monotonic() < deadline, sorted(n for n in _names() if n not in text)
        time.sleep(1)
        text = _offered()

    def value(pattern: str) -> float:
        found = re.search(rf"^{pattern} (\S+)$", text, re.MULTILINE)
        assert found is not None, pattern
        return float(found[1])

    assert value(r"ray_xalign_pairs_per_second\{.*\}") == 321
    assert value(r"ray_xalign_loss\{.*\}") == 1.5, "a step that was skipped leaves no hole"
    assert value(r'ray_xalign_rows_total\{.*stage="score".*\}') == 42
    assert value(r'ray_xalign_shard_rows\{.*shard="1".*\}') == 41
    assert value(r'ray_xalign_noise_share\{.*tgt_lang="deu".*\}') == 0.25
