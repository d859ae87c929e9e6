"""What a job reads and would not find is refused here; what it would find is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.arguments import values_of
from jobs.inputs import OPTIONS, check_inputs
from jobs.submit import VERBS
from xalign_dist.errors import ConfigError

SPACE = "parameters: {training.learning_rate: {grid: [0.1, 0.2]}}\n"
SUITE = "tasks: [{task: retrieval, data: '%s', values: {src_lang: en, tgt_lang: de}}]\n"
CLIR = "tasks: [{task: clir, data: {queries: /shared/q.parquet, documents: {path: d.parquet}}}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("texts.jsonl", "many/a.jsonl", "texts.parquet", "corpora/a.jsonl", "mixed/a.jsonl",
                 "mixed/b.parquet", "mixed/_SUCCESS", "model/config.json", "model/model.safetensors",
                 "corpora/suite.yaml"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "ignored.tsv").write_text("x")
    (tmp_path / ".gitignore").write_text("ignored.tsv\n")
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere.tsv"
    elsewhere.write_text("x")
    (tmp_path / "link.tsv").symlink_to(elsewhere)
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "whole.yaml").write_text(SUITE % "/shared/test.parquet")
    (tmp_path / "variable.yaml").write_text(SUITE % "${DATA_OF_THE_CLUSTER}/test.parquet")
    (tmp_path / "partial.yaml").write_text(SUITE % "test.parquet")
    (tmp_path / "clir.yaml").write_text(CLIR)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("texts.jsonl", None),
        ("many/*.jsonl", None),
        ("many", None),
        ("./many/a.jsonl", None),
        ("s3://bucket/texts.jsonl", None),
        ("/shared/texts.jsonl", None),
        ("nowhere.jsonl", "nowhere.jsonl"),
        ("many/*.tmx", "many/*.tmx"),
        ("texts.parquet", "texts.parquet"),
        ("corpora", "corpora/a.jsonl"),
        ("ignored.tsv", "ignored.tsv"),
        ("link.tsv", "link.tsv"),
        # Half of it would be read without a word.
        ("mixed", "mixed/b.parquet"),
        ("mixed/*", "mixed/b.parquet"),
        ("../texts.jsonl", "../texts.jsonl"),
    ],
)
def test_texts_go_along_whole_or_are_refused(folder: Path, path: str, missing: str | None) -> None:
    (folder / "run.yaml").write_text(f"corpora:\n- path: {path}\n")
    ways = [(verb, ["run.yaml"], "run.yaml: corpora.0.path") for verb in ("run", "ablate", "clean")]
    ways.append(("sweep", ["run.yaml", "space.yaml"], "run.yaml: corpora.0.path"))
    ways += [("score", ["--pairs", path], "--pairs"), ("train", ["c.yaml", f"--pairs={path}"], "--pairs")]
    ways += [("encode", ["--input", path], "--input"), ("clean", [path], "clean")]
    ways += [("mine", ["--source", path], "--source"), ("mine", ["--target", path], "--target")]
    for verb, arguments, where in ways:
        if missing is None:
            check_inputs(verb, arguments, folder)
            continue
        with pytest.raises(ConfigError) as refused:
            check_inputs(verb, arguments, folder)
        assert refused.value.problem.startswith(f"{where}: the job would not find {missing}: "), verb
        assert "whole path" in refused.value.remedy


@pytest.mark.parametrize(
    ("model", "missing"),
    [
        ("builtin:e5-small?layers=1", None),
        ("intfloat/multilingual-e5-base", None),
        ("s3://bucket/runs/one/model", None),
        ("/shared/runs/one/model", None),
        ("model", "model/model.safetensors"),
        ("./model", "model/model.safetensors"),
        ("runs/one/model", "runs/one/model"),
        ("~/model", "~/model"),
    ],
)
def test_weights_are_never_sent(folder: Path, model: str, missing: str | None) -> None:
    (folder / "m.yaml").write_text(f"encoder: {{model: '{model}'}}\n")
    (folder / "r.yaml").write_text(f"scoring: {{reference: '{model}'}}\n")
    (folder / "models.yaml").write_text(
        f"parameters: {{encoder.model: {{grid: [builtin:e5-small, '{model}']}}}}\n"
    )
    (folder / "held.yaml").write_text(f"fixed: {{scoring.reference: '{model}'}}\n{SPACE}")
    ways = [(v, [c], c) for v in ("run", "ablate", "train") for c in ("m.yaml", "r.yaml")]
    ways += [(v, ["--model", model], "--model") for v in ("score", "mine", "encode")]
    ways.append(("evaluate", ["--model", "builtin:e5-small", "--model", model], "--model"))
    ways += [("sweep", ["c.yaml", space], f"{space}: ") for space in ("models.yaml", "held.yaml")]
    for verb, arguments, where in ways:
        if missing is None:
            check_inputs(verb, arguments, folder)
            continue
        with pytest.raises(ConfigError) as refused:
            check_inputs(verb, arguments, folder)
        assert refused.value.problem.startswith(where), verb
        assert f"would not find {missing}: " in refused.value.problem


@pytest.mark.parametrize(
    ("suite", "missing"),
    [
        ("/shared/suite.yaml", None),
        ("whole.yaml", None),
        ("variable.yaml", None),
        ("partial.yaml", r"partial\.yaml: the job would not find test\.parquet: there is no such file"),
        ("clir.yaml", r"clir\.yaml: the job would not find d\.parquet: "),
        ("corpora/suite.yaml", r"would not find corpora/suite\.yaml: .* not sent"),
        ("none.yaml", r"would not find none\.yaml: there is no such file"),
    ],
)
def test_a_suite_goes_along_and_its_tables_do_not(folder: Path, suite: str, missing: str | None) -> None:
    (folder / "run.yaml").write_text(f"evaluation: {{suite: {suite}}}\n")
    ways = [("evaluate", ["--model", "builtin:e5-small", "--suite", suite])]
    ways += [("run", ["run.yaml"]), ("ablate", ["run.yaml"]), ("sweep", ["run.yaml", "space.yaml"])]
    for verb, arguments in ways:
        if missing is None:
            check_inputs(verb, arguments, folder)
            continue
        with pytest.raises(ConfigError, match=missing):
            check_inputs(verb, arguments, folder)
    check_inputs("train", ["run.yaml"], folder)  # which measures nothing


def test_development_pairs_are_asked_for_by_their_whole_path(folder: Path) -> None:
    (folder / "run.yaml").write_text("evaluation: {dev_pairs: texts.parquet}\n")
    with pytest.raises(
        ConfigError, match=r"run\.yaml: evaluation\.dev_pairs: .* texts\.parquet: .* not sent"
    ):
        check_inputs("run", ["run.yaml"], folder)


def test_what_the_command_line_sets_is_what_counts(folder: Path) -> None:
    (folder / "run.yaml").write_text("corpora:\n- path: texts.parquet\n")
    check_inputs("run", ["run.yaml", "corpora.0.path=/shared/texts.parquet", "--out", "/o"], folder)
    with pytest.raises(ConfigError, match=r"evaluation\.dev_pairs: .* dev\.parquet"):
        check_inputs("run", ["c.yaml", "evaluation.dev_pairs=dev.parquet"], folder)


def test_a_config_that_is_not_there_or_does_not_go_along_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"run: the job would not find slip\.yaml: there is no such file"):
        check_inputs("run", ["slip.yaml"], folder)
    (folder / "corpora" / "run.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match=r"would not find corpora/run\.yaml: .* not sent"):
        check_inputs("run", ["corpora/run.yaml"], folder)
    check_inputs("run", ["/shared/run.yaml"], folder)


@pytest.mark.parametrize("verb", VERBS)
def test_every_argument_of_every_verb_is_known_to_name_a_file_or_none(verb: str) -> None:
    checked = {*OPTIONS, "config", "source", "space", "overrides"}
    no_files = {"--out", "--address", "--columns", "--kind", "--src-lang", "--tgt-lang", "--seed", "--seeds",
                "--first-seed", "--arm", "--max-concurrent", "--scheduler", "--search", "--samples",
                "--budget", "--report"}  # fmt: skip
    assert set(values_of(verb, [])) <= checked | no_files
