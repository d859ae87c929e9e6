from __future__ import annotations

import numpy as np
import pytest

from tuning.population import first_settings, line_name, perturbed, takeovers
from tuning.space import Space
from tuning.stages import VARIES, check_varies
from xalign_dist.config import RunConfig
from xalign_dist.errors import ConfigError

RATE, DELTA = "training.learning_rate", "objective.false_negatives.delta"


def _space(**changes: object) -> Space:
    return Space.model_validate(
        {
            "search": "random",
            "samples": 8,
            "scheduler": "pbt",
            "parameters": {RATE: {"loguniform": [1e-5, 1e-3]}, DELTA: {"choice": [0.0, 0.01, 0.02, 0.04]}},
            **changes,
        }
    )


def test_draws_are_within_bounds_and_the_same_for_the_same_seed() -> None:
    first = first_settings(_space(), 3)
    assert len(first) == 8
    assert first == first_settings(_space(), 3) != first_settings(_space(), 4)
    assert all(1e-5 <= s[RATE] <= 1e-3 and s[DELTA] in (0.0, 0.01, 0.02, 0.04) for s in first)


def test_a_grid_is_every_combination_and_the_rest_is_drawn() -> None:
    space = _space(
        search="grid",
        samples=2,
        parameters={RATE: {"grid": [1e-4, 1e-3]}, DELTA: {"uniform": [0.0, 0.1]}},
    )
    found = first_settings(space, 0)
    assert [s[RATE] for s in found] == [1e-4, 1e-3] * 2
    assert len({s[DELTA] for s in found}) == 4
    assert len(found) == space.trials()


def test_numbers_move_by_a_fifth_or_are_drawn_anew_and_lists_move_by_one() -> None:
    space, rng = _space(), np.random.default_rng(0)
    moved = [perturbed(space.parameters, {RATE: 1e-4, DELTA: 0.01}, rng) for _ in range(2000)]
    rates = np.array([m[RATE] for m in moved])
    stepped = np.isclose(rates, 1.2e-4) | np.isclose(rates, 0.8e-4)
    assert stepped.mean() == pytest.approx(0.75, abs=0.04)
    assert np.isclose(rates, 1.2e-4).mean() == pytest.approx(0.375, abs=0.04)
    shares = {value: np.mean([m[DELTA] == value for m in moved]) for value in (0.0, 0.01, 0.02, 0.04)}
    # A neighbour with 0.375, and each of the four once more with 0.25 / 4.
    assert [shares[v] for v in (0.0, 0.01, 0.02, 0.04)] == pytest.approx(
        [0.4375, 0.0625, 0.4375, 0.0625], abs=0.04
    )


def test_a_number_stays_within_its_bounds_and_a_list_at_its_end() -> None:
    space, rng = _space(), np.random.default_rng(0)
    moved = [perturbed(space.parameters, {RATE: 0.95e-3, DELTA: 0.04}, rng) for _ in range(200)]
    assert max(m[RATE] for m in moved) == 1e-3
    assert {m[DELTA] for m in moved} == {0.0, 0.01, 0.02, 0.04}


def _lines(values: list[float | None]) -> list[tuple[str, float | None, dict[str, object]]]:
    return [(f"line{n}", value, {RATE: 1e-4, DELTA: 0.01}) for n, value in enumerate(values)]


def test_the_weakest_quarter_goes_on_from_the_strongest() -> None:
    values = [0.5, 0.1, 0.9, 0.4, 0.8, 0.2, 0.6, 0.7]
    taken = takeovers(_space(), _lines(values), 0, 1)
    assert [t.slot for t in taken] == [1, 5]
    assert {t.donor for t in taken} <= {"line2", "line4"}
    assert [t.loser for t in taken] == ["line1", "line5"]
    assert taken == takeovers(_space(), _lines(values), 0, 1)
    turned = takeovers(_space(mode="min"), _lines(values), 0, 1)
    assert [t.slot for t in turned] == [2, 4]
    assert {t.donor for t in turned} <= {"line1", "line5"}


def test_all_failed_lines_are_replaced_and_none_of_the_top_is() -> None:
    taken = takeovers(_space(), _lines([None, 0.1, None, 0.4, None, 0.2, 0.6, 0.7]), 0, 1)
    assert [t.slot for t in taken] == [0, 2, 4]
    assert {t.donor for t in taken} <= {"line6", "line7"}
    assert [t.slot for t in takeovers(_space(), _lines([None, 0.1, 0.3, 0.4, 0.5, 0.2, 0.6, 0.7]), 0, 1)] == [
        0,
        1,
    ]
    assert takeovers(_space(), _lines([None, None]), 0, 1) == []
    assert [t.slot for t in takeovers(_space(), _lines([0.3, 0.2]), 0, 1)] == [1]


def test_equal_settings_of_two_lines_are_two_lines() -> None:
    step = {"donor": "a", "round": 1, "overrides": ["x=1"]}
    names = {line_name(0, ["x=1"], []), line_name(1, ["x=1"], []), line_name(0, ["x=1"], [step])}
    assert len(names | {line_name(0, ["x=1"], [{**step, "round": 2}])}) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"search": "optuna"}, "search optuna cannot learn"), ({"search": "bohb"}, "search bohb cannot learn")],
)
def test_a_learning_search_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _space().changed(**changes)


def test_one_line_is_no_population() -> None:
    with pytest.raises(ConfigError, match="samples to at least 2"):
        _space(scheduler="none").changed(
            search="grid", samples=1, parameters={RATE: {"grid": [1e-4]}}, scheduler="pbt"
        )


@pytest.mark.parametrize(
    "key",
    ["training.steps", "training.batch_pairs", "encoder.pooling", "objective.adversary.enabled",
     "objective.adversary.hidden", "cleaning.max_chars", "training.optimizer", "pairs.test_share"],
)  # fmt: skip
def test_a_setting_that_shapes_the_state_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} cannot change"):
        check_varies(_space(parameters={key: {"choice": [1, 2]}}))


def test_what_may_vary_exists() -> None:
    check_varies(_space())
    for pattern in VARIES:
        node = RunConfig()
        for part in pattern.removesuffix(".*").split("."):
            node = getattr(node, part)
