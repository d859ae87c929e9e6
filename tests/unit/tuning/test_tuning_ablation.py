from __future__ import annotations

import pytest

from tuning.components import COMPONENTS, FULL, arms
from tuning.space import configure
from xalign_dist.baselines.infonce import infonce_config
from xalign_dist.config import RunConfig

BASE = {
    "rounds": {"count": 3},
    "objective": {
        "temperature": {"fixed": 0.07},
        "hardness": {"enabled": True},
        "adversary": {"enabled": False},
    },
}
ARMS = arms(configure(BASE, (), "test"))


def of_arm(name: str) -> RunConfig:
    return configure(BASE, ARMS[name], name)


def test_the_last_arm_is_the_baseline_of_a_run() -> None:
    ours, theirs = of_arm("fixed InfoNCE"), infonce_config(of_arm(FULL))
    assert ours == theirs
    assert list(ARMS)[-1] == "fixed InfoNCE"


@pytest.mark.parametrize("name", [name for name in ARMS if name != FULL])
def test_an_arm_changes_only_what_its_name_says(name: str) -> None:
    full, arm = of_arm(FULL), of_arm(name)
    assert arm != full
    same_objective, same_pairs = arm.objective == full.objective, arm.pairs == full.pairs
    assert (same_objective, same_pairs) == {
        "without filter": (True, False),
        "without pseudo-labels": (True, False),
        "fixed InfoNCE": (False, False),
    }.get(name, (False, True))
    assert arm.training == full.training


def test_a_part_that_is_on_is_taken_out_and_one_that_is_off_is_put_in() -> None:
    assert of_arm(FULL).objective.hardness.enabled
    assert not of_arm("without hardness").objective.hardness.enabled
    assert not of_arm(FULL).objective.adversary.enabled
    assert of_arm("with adversary").objective.adversary.enabled
    for name in COMPONENTS:
        assert (f"with {name}" in ARMS) != (f"without {name}" in ARMS)


def test_the_objective_as_a_whole_is_an_arm_only_where_it_is_more_than_one_part() -> None:
    off = [
        f"objective.{n}.enabled=false" for n in ("temperature", "hardness", "false_negatives", "adversary")
    ]
    alone = arms(configure(BASE, off, "test"))
    assert "without regulariser" in alone
    assert "without dynamic objective" not in alone
    assert "without dynamic objective" in ARMS
