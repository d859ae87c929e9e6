"""What no node and no group can ever give is refused, with the reason and the nearest group."""

from __future__ import annotations

from pathlib import Path

import pytest

from xalign_dist.config import RuntimeConfig, load_config
from xalign_dist.errors import ResourceError
from xalign_dist.runtime.demand import Demand, Group, reach, refuse, training_demand
from xalign_dist.runtime.resources import Resources
from xalign_dist.runtime.waiting import parse_groups

REPO = Path(__file__).parents[3]
POOL = "xalign/pool"
HEAD = Group("10.0.0.1", {"memory": 1e9}, {POOL: "head"}, head=True)
LAPTOP = Group("127.0.0.1", {"CPU": 8.0}, {}, head=True)
DATA = Group("data", {"CPU": 16.0}, {POOL: "data"}, 8, grows=True)
TRAIN = Group("train", {"CPU": 96.0, "GPU": 8.0}, {POOL: "train"}, 2, grows=True)
SPOT = Group("spot", {"CPU": 48.0, "GPU": 4.0}, {POOL: "spot"}, 5, grows=True)
GROUPS = [DATA, TRAIN, SPOT]


def _demand(workers: int, gpus: float | None = 1, cpus: float = 8.0, **labels: str) -> Demand:
    runtime = RuntimeConfig(
        train_workers=workers,
        gpus_per_worker=gpus,
        node_labels={f"xalign/{key}": value for key, value in labels.items()},
    )
    return training_demand(runtime, {"CPU": cpus})


@pytest.mark.parametrize(
    ("demand", "live", "groups"),
    [
        (_demand(16, pool="train"), [HEAD], GROUPS),
        (_demand(32), [HEAD], GROUPS),
        (_demand(64, gpus=0.25, pool="spot"), [HEAD], GROUPS),
        (_demand(20, pool="!train"), [HEAD], GROUPS),
        (_demand(36, pool="in(spot, train)"), [HEAD], GROUPS),
        (_demand(3, gpus=None), [LAPTOP], []),
        (_demand(500), [HEAD], None),
        (Demand("this stage", 128, {"CPU": 1.0}, {POOL: "data"}), [HEAD], GROUPS),
    ],
)
def test_what_may_come_is_let_through(demand: Demand, live: list[Group], groups: list[Group] | None) -> None:
    refuse(demand, live, groups)


@pytest.mark.parametrize(
    ("demand", "live", "groups", "message"),
    [
        (_demand(1), [LAPTOP], [], r"1 x \(1 CPU, 1 GPU\), and .* has no GPU.*\n.*gpus_per_worker=null"),
        (_demand(1), [HEAD], [DATA], r"has no GPU, nor a group that could add one"),
        (
            _demand(17, pool="train"),
            [HEAD],
            GROUPS,
            r"17 x \(1 CPU, 1 GPU\) on nodes with xalign/pool=train, .* never give that: there is room "
            r"for 16; the nearest is group train, which may have 2 nodes\n"
            r".*runtime\.train_workers to at most 16, or raise max_workers of group train",
        ),
        (
            _demand(2, gpus=16),
            [HEAD],
            GROUPS,
            r"the nearest is group train, whose nodes have 96 CPU, 8 GPU each\n.*gpus_per_worker",
        ),
        (
            _demand(2, gpus=8, pool="spot"),
            [HEAD],
            GROUPS,
            r"the nearest is group spot, whose nodes have 48 CPU, 4 GPU each",
        ),
        (
            _demand(2, pool="gpu"),
            [HEAD],
            GROUPS,
            r"no group has these labels; the nearest is group train with xalign/pool=train\n.*node_labels",
        ),
        (
            Demand("this stage", 1, {"CPU": 1.0}, setting="runtime.min_cpus"),
            [HEAD],
            [],
            r"this stage asks for 1 x \(1 CPU\), and the cluster has no CPU.*\n.*worker nodes",
        ),
    ],
    ids=["laptop", "cpu-groups", "too-many", "too-large", "too-large-with-labels", "labels", "empty-head"],
)  # fmt: skip
def test_what_never_comes_is_refused_with_the_nearest_group(
    demand: Demand, live: list[Group], groups: list[Group], message: str
) -> None:
    with pytest.raises(ResourceError, match=message):
        refuse(demand, live, groups)


def test_live_nodes_of_a_group_do_not_count_twice() -> None:
    nodes = [Group(f"10.0.0.{n}", TRAIN.resources, TRAIN.labels) for n in (2, 3)]
    assert reach(_demand(1), [HEAD, *nodes], [TRAIN]) == 16
    with_gpus = Group("10.0.0.1", {"CPU": 8.0, "GPU": 1.0}, {}, head=True)
    assert reach(_demand(1), [with_gpus, nodes[0]], [TRAIN]) == 17


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_every_shipped_config_fits_every_shipped_cluster(name: str) -> None:
    groups = parse_groups((REPO / "cluster" / name).read_text("utf-8"))
    assert {g.name for g in groups} == {"data", "train", "spot"}
    for path in sorted((REPO / "jobs" / "configs").glob("*.yaml")):
        runtime = load_config(path).runtime
        refuse(training_demand(runtime, {}), [HEAD], groups)
        most = runtime.model_copy(
            update={"train_workers": runtime.train_workers_max or runtime.train_workers}
        )
        refuse(training_demand(most, {}), [HEAD], groups)


def test_a_cluster_files_limits_are_the_smaller_of_both() -> None:
    text = """
max_workers: 3
head_node_type: head
available_node_types:
  head: {resources: {CPU: 4}, node_config: {}}
  many: {resources: {CPU: 2}, labels: {a: b}, max_workers: 9, node_config: {}}
  plain: {node_config: {}}
"""
    many, plain = parse_groups(text)
    assert (many.most, many.resources, many.labels, many.grows) == (3, {"CPU": 2.0}, {"a": "b"}, True)
    assert (plain.most, plain.resources) == (3, {})


@pytest.mark.parametrize(
    ("cpus", "nodes", "actors", "threads"),
    [(8, 1, 1, 8), (8, 1, 2, 4), (2, 1, 8, 1), (48, 3, 6, 8), (48, 3, 1, 16), (48, 3, 2, 16)],
)
def test_actors_share_the_cores_of_their_node(cpus: int, nodes: int, actors: int, threads: int) -> None:
    assert Resources(cpus, 0, nodes).threads(actors) == threads
    assert Resources(cpus, 1, nodes).threads(actors) is None
