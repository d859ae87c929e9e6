from __future__ import annotations

import json
from pathlib import Path

import pytest

from xalign_dist.config import load_config

REPO = Path(__file__).parents[3]
CONFIGS = sorted((REPO / "jobs" / "configs").glob("*.yaml"))


def test_all_sizes_are_shipped() -> None:
    assert {p.stem for p in CONFIGS} == {"laptop", "single_gpu", "node_8gpu", "multi_node", "spot"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_loads_and_its_parts_fit(path: Path) -> None:
    config = load_config(path)
    assert {c.kind for c in config.corpora} == {"pairs", "sentences"}
    workers = config.runtime.train_workers or 1
    assert config.training.batch_pairs % workers == 0
    if config.runtime.train_workers_max is not None:
        assert config.runtime.train_workers_max > workers
        assert config.training.deepspeed.zero_stage == 0
    if config.runtime.node_labels:
        assert all("://" in c.path for c in config.corpora), "nodes of a cluster share no disk"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_deepspeed_settings_are_those_of_the_cluster_file(path: Path) -> None:
    deepspeed = load_config(path).training.deepspeed
    name = f"zero{deepspeed.zero_stage}{'_offload' if deepspeed.offload == 'cpu' else ''}.json"
    shipped = json.loads((REPO / "cluster" / "deepspeed" / name).read_text("utf-8"))["zero_optimization"]
    assert deepspeed.extra.get("zero_optimization", {}).items() <= shipped.items()
