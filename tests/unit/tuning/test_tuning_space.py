from __future__ import annotations

from pathlib import Path

import pytest
import sweep_grid
import yaml

from tuning.space import Space, configure, load_space, override
from xalign_dist.errors import ConfigError

SPACES = Path(__file__).parents[3] / "tuning" / "spaces"


def _space(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_spaces_are_valid(path: Path) -> None:
    assert load_space(path).trials() >= 20


def test_the_benchmarks_grid_is_valid(tmp_path: Path) -> None:
    assert load_space(_space(tmp_path, yaml.safe_dump(sweep_grid.SPACE))).trials() == 12


def test_paper_grid_is_the_papers_three_settings() -> None:
    space = load_space(SPACES / "paper_grid.yaml")
    assert {key.split(".")[-1] for key in space.parameters} == {"learning_rate", "batch_pairs", "start"}
    assert all(p.grid for p in space.parameters.values())
    assert space.trials() == 36


def test_samples_multiply_the_grid() -> None:
    space = Space.model_validate(
        {
            "samples": 5,
            "parameters": {"a": {"grid": [1, 2, 3]}, "b": {"grid": [1, 2]}, "c": {"uniform": [0, 1]}},
        }
    )
    assert space.trials() == 30


def test_unknown_setting_names_the_nearest(tmp_path: Path) -> None:
    path = _space(tmp_path, "parameters: {training.learning_rat: {grid: [0.1]}}")
    with pytest.raises(ConfigError, match=r"training\.learning_rat\n.*did you mean learning_rate\?"):
        load_space(path)


def test_value_that_the_setting_refuses_is_named(tmp_path: Path) -> None:
    path = _space(tmp_path, "parameters: {training.batch_pairs: {choice: [64, 1]}}")
    with pytest.raises(ConfigError, match=r"training\.batch_pairs.*\(got '1'\)"):
        load_space(path)
    path = _space(
        tmp_path,
        "{fixed: {objective.temperature.enabled: true}, parameters: {objective.temperature.start: "
        "{loguniform: [0.05, 0.5]}}}",
    )
    with pytest.raises(ConfigError, match="between minimum and maximum"):
        load_space(path)


def test_values_are_checked_on_top_of_the_base(tmp_path: Path) -> None:
    path = _space(tmp_path, "parameters: {training.batch_pairs: {grid: [32]}}")
    load_space(path)
    with pytest.raises(ConfigError, match="chunk_pairs"):
        load_space(path, {"training": {"chunk_pairs": 48}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters: {seed: {grid: [1], choice: [2]}}", "exactly one"),
        ("parameters: {seed: {}}", "exactly one"),
        ("parameters: {seed: {uniform: [2, 1]}}", "not under high"),
        ("parameters: {seed: {loguniform: [0, 1]}}", "above 0"),
        ("parameters: {seed: {grid: []}}", "at least 1"),
        ("parameters: {}", "at least 1"),
        ("{fixed: {seed: 1}, parameters: {seed: {grid: [1]}}}", "both fixed and varied"),
        (
            "{fixed: {seed: 1}, parameters: {training.batch_pairs: {grid: [8]}}}",
            "the finalists get",
        ),
        ("parameters: {seed: {grid: [1, 2]}}", "the finalists get"),
        ("parameters: {objective.hardness.beta: {grid: [1, 2]}}", "objective.hardness is off"),
        ("{sample: 2, parameters: {seed: {grid: [1]}}}", "sample"),
    ],
)
def test_malformed_space_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_space(_space(tmp_path, text))


@pytest.mark.parametrize("value", [1e-5, 2.5e-7, 1e22, 0.1, 3, True, None, "asha", "1e-5", "yes", "a: b"])
def test_overrides_keep_the_value_and_its_type(value: bool | int | float | str | None) -> None:
    from xalign_dist.config.load import apply_override

    data: dict[str, object] = {}
    apply_override(data, override("k", value))
    assert data["k"] == value
    assert type(data["k"]) is type(value)


def test_configure_leaves_the_base_alone() -> None:
    base = {"training": {"steps": 7}}
    config = configure(base, ["training.steps=9", "seed=4"], "test")
    assert (config.training.steps, config.seed) == (9, 4)
    assert base == {"training": {"steps": 7}}


def test_numbers_of_a_part_that_is_off_are_varied_only_with_its_switch(tmp_path: Path) -> None:
    beta = "objective.hardness.beta: {grid: [1, 2]}"
    for text in (
        f"{{fixed: {{objective.hardness.enabled: true}}, parameters: {{{beta}}}}}",
        f"parameters: {{{beta}, objective.hardness.enabled: {{grid: [true, false]}}}}",
        "parameters: {objective.temperature.fixed: {grid: [0.03, 0.05]}}",
    ):
        load_space(_space(tmp_path, text))
    load_space(_space(tmp_path, f"parameters: {{{beta}}}"), {"objective": {"hardness": {"enabled": True}}})
