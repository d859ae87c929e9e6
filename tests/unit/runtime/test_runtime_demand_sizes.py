"""How many actors, nodes and shards a stage takes, of what is here and of what the groups may grow to."""

from __future__ import annotations

import pytest

from xalign_dist.config import RuntimeConfig
from xalign_dist.runtime.demand import Group, room
from xalign_dist.runtime.resources import BLOCKS_PER_ACTOR, BLOCKS_PER_GPU, ROWS_PER_NODE, Pool, Resources

POOL = "xalign/pool"
DATA = Group("data", {"CPU": 16.0}, {POOL: "data"}, 8, grows=True)
SMALL = Group("small", {"CPU": 2.0}, {POOL: "data"}, 3, grows=True)
TRAIN = Group("train", {"CPU": 96.0, "GPU": 8.0}, {POOL: "train"}, 2, grows=True)
SPOT = Group("spot", {"CPU": 48.0, "GPU": 4.0}, {POOL: "spot"}, 4, grows=True)
CLOUD = (DATA, TRAIN, SPOT)

LAPTOP, WORKSTATION = Resources(2, 0, 1, 1), Resources(32, 2, 1, 1)
FIXED = Resources(64, 0, 4, 1)
FIRST_NODE = Resources(16, 0, 1, 1, CLOUD)
"""An autoscaled cluster at rest, when the one node has come that a stage waits for."""
MANY, FEW = 10_000, 3


@pytest.mark.parametrize(
    ("here", "settings", "blocks", "expected"),
    [
        (LAPTOP, {}, MANY, Pool(1, 2, 0.5)),
        (LAPTOP, {"embed_actors": 2}, MANY, Pool(2, 1, 0.5)),
        (LAPTOP, {"embed_actors": 16, "gpus_per_worker": 1}, FEW, Pool(3, 1, 0.5)),
        (WORKSTATION, {}, MANY, Pool(2, None, 0.0, 1.0)),
        (WORKSTATION, {"gpus_per_worker": 0.25, "embed_actors": 4}, MANY, Pool(4, None, 0.0, 0.25)),
        (FIXED, {}, MANY, Pool(8, 8, 0.5, moves=True)),
        (FIXED, {}, FEW, Pool(3, 16, 0.5, moves=True)),
        (FIXED, {"embed_actors": 16}, MANY, Pool(16, 4, 0.5, moves=True)),
    ],
)
def test_where_no_node_can_come_the_pool_is_of_what_is_here(
    here: Resources, settings: dict[str, float], blocks: int, expected: Pool
) -> None:
    assert here.pool(RuntimeConfig.model_validate(settings), blocks) == expected
    assert here.index_demand(10**9) is None


def test_at_rest_a_pool_grows_over_the_data_group_as_far_as_the_work_is_worth_it() -> None:
    def actors(blocks: int) -> int:
        return FIRST_NODE.pool(RuntimeConfig(), blocks).actors

    # Two to a node of 16 cores, on up to 8 nodes.
    assert FIRST_NODE.pool(RuntimeConfig(), MANY) == Pool(16, 8, 7.5, moves=True)
    assert actors(1) == 1
    assert actors(3 * BLOCKS_PER_ACTOR - 1) == 2, "the node that is here does it"
    assert actors(3 * BLOCKS_PER_ACTOR) == 3
    assert actors(16 * BLOCKS_PER_ACTOR) == actors(MANY) == 16


@pytest.mark.parametrize(
    ("group", "configured", "each"),
    [
        (DATA, None, 2),
        (SMALL, None, 1),
        (SMALL, 7, 3),
        (DATA, 40, 5),
        (Group("one", {"CPU": 1.0}, {}, 4), None, 1),
    ],
)
def test_a_full_node_does_not_take_one_more_actor(group: Group, configured: int | None, each: int) -> None:
    cores = int(group.resources["CPU"])
    pool = Resources(cores, 0, 1, 1, (group,)).pool(RuntimeConfig(embed_actors=configured), MANY)
    assert pool.actors == (configured or each * group.most)
    assert pool.threads == max(1, cores // each)
    assert each * pool.cpus <= cores < (each + 1) * pool.cpus
    assert -(-pool.actors // each) == group.most, "all its nodes"


def test_many_configured_actors_do_not_share_the_first_node() -> None:
    pool = FIRST_NODE.pool(RuntimeConfig(embed_actors=16), MANY)
    assert pool == Pool(16, 8, 7.5, moves=True)
    assert FIRST_NODE.pool(RuntimeConfig(embed_actors=16), 2) == Pool(2, 8, 0.5, moves=True)


def test_gpus_at_rest_are_asked_for_where_the_config_names_them_with_its_labels() -> None:
    multi_node = RuntimeConfig(embed_actors=16, gpus_per_worker=1, node_labels={POOL: "train"})
    assert FIRST_NODE.pool(multi_node, MANY) == Pool(16, None, 0.0, 1.0, {POOL: "train"}, moves=True)
    # No more than the group may have, and no more than there are blocks.
    more = multi_node.model_copy(update={"embed_actors": 40})
    assert FIRST_NODE.pool(more, MANY).actors == 16
    assert FIRST_NODE.pool(multi_node, FEW).actors == 3
    # Without a number: as many GPUs as the work is worth; below that the CPUs do it.
    spot = RuntimeConfig(gpus_per_worker=1, node_labels={POOL: "spot"})
    assert FIRST_NODE.pool(spot, 5 * BLOCKS_PER_GPU).actors == 5
    assert FIRST_NODE.pool(spot, MANY).actors == 16
    assert FIRST_NODE.pool(spot, 2) == Pool(2, 8, 0.5, moves=True)
    # A share of a GPU each.
    shared = RuntimeConfig(gpus_per_worker=0.25, embed_actors=40, node_labels={POOL: "spot"})
    assert FIRST_NODE.pool(shared, MANY) == Pool(40, None, 0.0, 0.25, {POOL: "spot"}, moves=True)
    # Nobody asked for GPUs: none are started.
    assert FIRST_NODE.pool(RuntimeConfig(), MANY).gpus == 0
    # None can come: the number holds for CPUs.
    without = Resources(16, 0, 1, 1, (DATA,))
    assert without.pool(multi_node, MANY) == Pool(16, 8, 7.5, moves=True)


def test_gpus_that_are_here_are_taken_as_they_are() -> None:
    here = Resources(112, 16, 2, 1, CLOUD)
    labelled = RuntimeConfig(embed_actors=16, gpus_per_worker=1, node_labels={POOL: "train"})
    assert here.pool(labelled, MANY) == Pool(16, None, 0.0, 1.0, moves=True)
    assert here.pool(RuntimeConfig(), MANY) == Pool(16, None, 0.0, 1.0, moves=True)
    half = Resources(112, 8, 1, 1, CLOUD)
    assert half.pool(labelled, MANY) == Pool(16, None, 0.0, 1.0, {POOL: "train"}, moves=True)


def test_a_number_meant_for_gpus_still_to_come_does_not_hold_for_one_data_node() -> None:
    config = RuntimeConfig(embed_actors=16, gpus_per_worker=1, node_labels={POOL: "train"})
    assert (FIRST_NODE.embed_actors(config), FIRST_NODE.embed_gpus(config)) == (2, 0.0)
    assert Resources(112, 16, 2, 1, CLOUD).embed_actors(config) == 16
    assert LAPTOP.embed_actors(config) == FIXED.embed_actors(config) == 16


def test_an_index_asks_for_the_nodes_that_it_is_worth() -> None:
    assert FIRST_NODE.index_demand(100) is None
    assert FIRST_NODE.index_demand(2 * ROWS_PER_NODE - 1) is None
    demand = FIRST_NODE.index_demand(3 * ROWS_PER_NODE)
    assert demand is not None
    assert (demand.count, demand.resources) == (3, {"CPU": 9.0})
    assert str(demand) == "3 x (9 CPU)"
    all_of_it = FIRST_NODE.index_demand(10**9)
    assert all_of_it is not None
    # The groups can give it, one to a node.
    assert all_of_it.count == room(all_of_it, [DATA]) == 8
    assert Resources(128, 0, 8, 1, CLOUD).index_demand(10**9) is None, "all are here"


def test_shards_follow_the_nodes_that_are_here() -> None:
    assert Resources(2, 0, 1).shards(None) == 2
    assert Resources(64, 0, 4).shards(None) == 8
    assert Resources(64, 0, 4).shards(3) == 3
    assert Resources(64, 8, 4).shards(None) == 8
