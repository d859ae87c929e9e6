"""Config: YAML, overrides, unknown keys, cross-field faults."""

from __future__ import annotations

import pytest
import yaml

from xalign_dist.config import ObjectiveConfig, RunConfig, dump_config, load_config, parse_config
from xalign_dist.errors import ConfigError


def test_overrides_reach_nested_settings_and_lists(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("corpora: [{path: a.parquet}, {path: b.parquet}]\ntraining: {steps: 7}\n")
    config = load_config(
        path, ["training.batch_pairs=32", "corpora.1.src_lang=eng", "encoder.orthogonal=false"]
    )
    assert (config.training.steps, config.training.batch_pairs) == (7, 32)
    assert [c.src_lang for c in config.corpora] == [None, "eng"]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("training.step=5", "did you mean steps?"),
        ("trainin.steps=5", "did you mean training?"),
        ("objective.temperature.fixd=0.1", "did you mean fixed?"),
    ],
)
def test_unknown_key_names_the_nearest(key, near):
    with pytest.raises(ConfigError, match="unknown setting") as err:
        load_config(None, [key])
    assert near in err.value.remedy


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.chunk_pairs=100", "chunk_pairs"),
        ("objective.temperature.start=0.5", "between minimum and maximum"),
        ("encoder.orthogonal=true", "projection=linear"),
        ("pairs.target_noise=1.5", "pairs.target_noise"),
        ("training.steps=1", "rounds.count"),
        ("encoder.lora_targets=[q_proj]", "need encoder.lora_rank"),
        ("runtime.train_workers=65", "cannot be shared by 65 workers"),
        ("runtime.train_workers_max=65", "cannot be shared by 65 workers"),
        ("corpora.0.path=x", "no index"),
        ("training", "not key=value"),
        ("corpora=[{path: a.txt, kind: sentences, mining_group: g}]", "needs a source"),
    ],
)
def test_faults_name_the_setting(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, ["corpora=[]", override] if override.startswith("corpora.") else [override])


def test_flash_attention_and_fp32_exclude_each_other():
    load_config(None, ["encoder.attention=flash"])
    with pytest.raises(ConfigError, match=r"encoder\.attention=flash .* training\.precision"):
        load_config(None, ["encoder.attention=flash", "training.precision=fp32"])


def test_yaml_cannot_build_objects(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("seed: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_config(path)


def test_missing_file_and_wrong_shape(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "no.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="not a mapping"):
        load_config(tmp_path / "list.yaml")


def test_dump_is_read_back_as_the_same_config():
    config = load_config(None, ["training.steps=11", "corpora=[{path: a.tsv, columns: {src: en}}]"])
    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_baseline_objective_has_every_part_off():
    plain = ObjectiveConfig.infonce(0.07).model_dump()
    assert plain["temperature"]["fixed"] == 0.07
    assert not any(part["enabled"] for part in plain.values())


def test_every_setting_is_described():
    definitions = RunConfig.model_json_schema()["$defs"]
    sections = {s.split("/")[-1] for s in definitions}
    bare = [
        f"{name}.{key}"
        for name, schema in definitions.items()
        for key, field in schema.get("properties", {}).items()
        if "description" not in field and not ("$ref" in field and field["$ref"].split("/")[-1] in sections)
    ]
    assert bare == []
