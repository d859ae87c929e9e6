from __future__ import annotations

from pathlib import Path

import numpy as np

from tuning.bohb import BohbSearch
from tuning.space import Parameter

PARAMETERS = {
    "rate": Parameter(loguniform=(1e-5, 1e-1)),
    "share": Parameter(uniform=(0.0, 1.0)),
    "kind": Parameter(choice=["a", "b", "c"]),
}


def _value(settings: dict[str, object]) -> float:
    """Best at rate 1e-3, share 0.7, kind b."""
    rate, share, kind = settings["rate"], settings["share"], settings["kind"]
    assert isinstance(rate, float)
    assert isinstance(share, float)
    return -abs(np.log10(rate) + 3) / 2 - abs(share - 0.7) - (0.0 if kind == "b" else 0.5)


def _run(search: BohbSearch, count: int, first: int = 0) -> list[float]:
    found = []
    for n in range(first, first + count):
        settings = search.suggest(f"t{n}")
        found.append(_value(settings))
        search.on_trial_complete(f"t{n}", {"training_iteration": 1, "acc": found[-1]})
    return found


def test_learns_where_the_good_settings_are() -> None:
    late, blind = [], []
    for seed in range(5):
        late += _run(BohbSearch(PARAMETERS, "acc", "max", seed), 60)[30:]
        rng = np.random.default_rng(seed)
        blind += [
            _value(
                {
                    "rate": 10 ** rng.uniform(-5, -1),
                    "share": rng.random(),
                    "kind": rng.choice(["a", "b", "c"]),
                }
            )
            for _ in range(30)
        ]
    # A third of the draws stay random on purpose, so the medians are compared.
    assert np.median(late) > np.median(blind) + 0.25


def test_stays_inside_the_space() -> None:
    search = BohbSearch(PARAMETERS, "acc", "min", 0)
    for n in range(50):
        settings = search.suggest(f"t{n}")
        assert 1e-5 <= settings["rate"] < 1e-1
        assert 0 <= settings["share"] < 1
        assert settings["kind"] in "abc"
        search.on_trial_complete(f"t{n}", {"training_iteration": 1, "acc": -_value(settings)})


def test_the_largest_budget_with_enough_trials_decides() -> None:
    search = BohbSearch(PARAMETERS, "acc", "max", 0)
    for n in range(8):
        search.suggest(f"t{n}")
        search.on_trial_result(f"t{n}", {"training_iteration": 1, "acc": float(n)})
    assert search._observed() == [f"t{n}" for n in reversed(range(8))]
    for n in range(5):
        search.on_trial_result(f"t{n}", {"training_iteration": 2, "acc": float(n)})
    assert search._observed() == ["t4", "t3", "t2", "t1", "t0"]


def test_a_failed_trial_teaches_nothing() -> None:
    search = BohbSearch(PARAMETERS, "acc", "max", 0)
    for n in range(8):
        search.suggest(f"t{n}")
        search.on_trial_complete(f"t{n}", {"training_iteration": 1, "acc": float("nan")})
    assert search._observed() is None


def test_a_restarted_driver_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    search = BohbSearch(PARAMETERS, "acc", "max", 4)
    _run(search, 12)
    search.save(str(tmp_path / "state"))
    other = BohbSearch(PARAMETERS, "acc", "max", 99)
    other.restore(str(tmp_path / "state"))
    assert _run(other, 5, 12) == _run(search, 5, 12)
