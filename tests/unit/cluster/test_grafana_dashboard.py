"""The Grafana dashboard asks for figures that exist, by labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from xalign_dist.runtime.metrics import FIGURES

DASHBOARD = json.loads((Path(__file__).parents[3] / "cluster" / "grafana" / "xalign.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
OFFERED = {f"ray_{name}" + ("_total" if f.grows else ""): set(f.tags) for name, f in FIGURES.items()}


@pytest.mark.parametrize("panel", PANELS, ids=lambda p: p["title"])
def test_every_panel_asks_for_something_that_exists(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        names = set(re.findall(r"ray_\w+", target["expr"]))
        assert names
        assert names <= set(OFFERED)
        wrong = [label for label in _labels(target) if any(label not in OFFERED[n] for n in names)]
        assert wrong == [], f"{panel['title']}: not every one of {sorted(names)} has {wrong}"


def _labels(target: dict[str, str]) -> set[str]:
    """Of groupings, selectors and legends; the name of a metric is a label that each has."""
    grouped = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", target["expr"])
    selected = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", target["expr"])
    shown = re.findall(r"{{\s*(\w+)\s*}}", target.get("legendFormat", ""))
    names = {label.strip() for group in grouped for label in group.split(",")}
    return (names | set(selected) | set(shown)) - {"__name__", ""}


def test_labels_are_found_wherever_they_stand() -> None:
    expr = 'sum by (stage, run) (rate(ray_a{source="web", __name__=~"x"}[1m]))'
    assert _labels({"expr": expr, "legendFormat": "{{shard}} of {{ stage }}"}) == {
        "stage", "run", "source", "shard",
    }  # fmt: skip


def test_panels_lie_side_by_side() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(ids) == len(set(ids))
    cells = [
        (x, y)
        for g in (panel["gridPos"] for panel in PANELS)
        for x in range(g["x"], g["x"] + g["w"])
        for y in range(g["y"], g["y"] + g["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_variables_that_are_used_are_declared() -> None:
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS)))
    used = {name for name in used if not name.startswith("__")}  # Grafana's own
    assert used <= {variable["name"] for variable in DASHBOARD["templating"]["list"]}
