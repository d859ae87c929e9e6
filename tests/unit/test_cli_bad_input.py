"""What a user gets wrong: one clear message with the remedy, exit code 2, no traceback."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xalign_dist import cli


def xalign(capsys, monkeypatch, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["xalign", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    shown = capsys.readouterr()
    return int(end.value.code or 0), " ".join((shown.out + shown.err).split())


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: xalign(capsys, monkeypatch, *arguments)


def pairs(path, **columns):
    table = {"src_lang": ["eng"], "tgt_lang": ["deu"], "src": ["Hello you"], "tgt": ["Hallo du"]} | columns
    pq.write_table(pa.table(table), path)
    return str(path)


MODEL = ("--model", "builtin:e5-small?layers=1")


def check(result, *words):
    code, text = result
    assert code == 2, text
    assert "remedy:" in text
    assert "Traceback" not in text
    for word in words:
        assert word in text


def test_missing_file(call):
    check(call("score", *MODEL, "--pairs", "no.parquet", "--out", "o"), "no.parquet", "no such file")


def test_wrong_column_names_the_nearest(call, tmp_path):
    pq.write_table(pa.table({"sorce": ["a b"], "tgt": ["c d"]}), tmp_path / "p.parquet")
    check(
        call("score", *MODEL, "--pairs", "p.parquet", "--out", "o", "--columns", "src=source"),
        "source",
        "sorce",
    )


def test_truncated_parquet(call, tmp_path):
    path = tmp_path / "p.parquet"
    pairs(path)
    path.write_bytes(path.read_bytes()[:-20])
    check(call("score", *MODEL, "--pairs", "p.parquet", "--out", "o"), "p.parquet", "cut off")


def test_truncated_gzip(call, tmp_path):
    data = gzip.compress(b"".join(b'{"src": "a%d", "tgt": "b"}\n' % i for i in range(5000)))
    (tmp_path / "p.jsonl.gz").write_bytes(data[: len(data) // 2])
    check(call("score", *MODEL, "--pairs", "p.jsonl.gz", "--out", "o"), "p.jsonl.gz", "cut off")


def test_empty_corpus(call, tmp_path):
    (tmp_path / "p.jsonl").write_text("")
    check(call("score", *MODEL, "--pairs", "p.jsonl", "--out", "o"), "no rows")


def test_moses_sides_of_unequal_length(call, tmp_path):
    (tmp_path / "a.en").write_text("one\ntwo\n")
    (tmp_path / "a.de").write_text("eins\n")
    (tmp_path / "c.yaml").write_text(
        "corpora: [{path: a.en, target_path: a.de, src_lang: en, tgt_lang: de}]\n"
    )
    check(call("clean", "c.yaml", "--out", "o"), "2 lines", "1")


def test_unknown_language_code(call, tmp_path):
    pairs(tmp_path / "p.parquet")
    (tmp_path / "c.yaml").write_text("corpora: [{path: p.parquet, src_lang: english}]\n")
    check(call("clean", "c.yaml", "--out", "o"), "'english' is not a language code")
    files = ("--source", "not-read.txt", "--target", "not-read.txt")
    check(
        call("mine", *MODEL, *files, "--tgt-lang", "gaelic", "--out", "o"), "'gaelic' is not a language code"
    )


def test_model_directory_without_weights(call, tmp_path):
    pairs(tmp_path / "p.parquet")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"pickle")
    check(call("score", "--model", "m", "--pairs", "p.parquet", "--out", "o"), "safetensors")


def test_unknown_builtin(call, tmp_path):
    pairs(tmp_path / "p.parquet")
    check(call("score", "--model", "builtin:e6", "--pairs", "p.parquet", "--out", "o"), "e6")


def test_output_that_cannot_be_created(call, tmp_path):
    pairs(tmp_path / "p.parquet")
    (tmp_path / "file").write_text("")
    check(call("score", *MODEL, "--pairs", "p.parquet", "--out", "file/o"), "file/o", "another --out")


def test_object_store_where_only_a_file_system_will_do(call, tmp_path):
    pairs(tmp_path / "p.parquet")
    (tmp_path / "c.yaml").write_text("corpora: [{path: p.parquet}]\n")
    for verb in (
        ("score", *MODEL, "--pairs", "p.parquet"),
        ("clean", "p.parquet"),
        ("evaluate", *MODEL, "--suite", "c.yaml"),
        ("quickstart",),
        ("sweep", "c.yaml", "c.yaml"),
        ("ablate", "c.yaml"),
    ):
        check(call(*verb, "--out", "s3://bucket/o"), "s3://bucket/o", "file system path")
    check(call("report", "s3://bucket/o"), "s3://bucket/o")
    assert not (tmp_path / "s3:").exists()


def test_pbt_refuses_what_a_population_cannot_do(call, tmp_path):
    (tmp_path / "c.yaml").write_text("corpora: [{path: p.parquet}]\n")
    rate = "parameters: {training.learning_rate: {uniform: [0.0001, 0.001]}}\nsearch: random\nsamples: 4\n"
    (tmp_path / "s.yaml").write_text(rate)
    (tmp_path / "w.yaml").write_text(rate.replace("training.learning_rate", "encoder.lora_dropout"))
    (tmp_path / "e.yaml").write_text(
        rate.replace(
            "training.learning_rate: {uniform: [0.0001, 0.001]}", "training.batch_pairs: {grid: [8, 16]}"
        )
    )
    (tmp_path / "r.yaml").write_text(rate + "fixed: {rounds.count: 3}\n")

    def sweep(space, *more):
        return call("sweep", "c.yaml", space, *more, "--scheduler", "pbt", "--out", "o")

    check(sweep("s.yaml", "rounds.count=1"), "rounds.count is 1", "set rounds.count to at least 2")
    check(sweep("w.yaml"), "encoder.lora_dropout cannot change between rounds", "--scheduler asha")
    check(sweep("e.yaml"), "training.batch_pairs cannot change between rounds", "--scheduler asha")
    check(sweep("r.yaml"), "rounds.count is fixed in the space", "command line")
    check(sweep("s.yaml", "--search", "optuna"), "search optuna cannot learn from", "random or grid")
    check(sweep("s.yaml", "--search", "bohb"), "search bohb cannot learn from", "random or grid")


def test_output_with_another_configs_results(call, tmp_path):
    pairs(tmp_path / "p.parquet")
    (tmp_path / "c.yaml").write_text("corpora: [{path: p.parquet}]\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 3\n")
    check(call("run", "c.yaml", "--out", "run"), "another config")


def test_config_without_corpora_and_unknown_setting(call, tmp_path):
    (tmp_path / "c.yaml").write_text("training: {steps: 10}\n")
    check(call("run", "c.yaml"), "no corpora")
    check(call("run", "c.yaml", "training.stepps=3"), "did you mean steps?")


def test_columns_that_are_no_mapping(call, tmp_path):
    pairs(tmp_path / "p.parquet")
    check(call("score", *MODEL, "--pairs", "p.parquet", "--out", "o", "--columns", "src"), "ours=theirs")


def test_report_of_no_run(call):
    check(call("report", "nowhere"), "no run directory")


def test_debug_shows_the_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "xalign_dist", "--debug", "report", str(tmp_path)],
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_pairs_of_one_language(call, tmp_path):
    pairs(tmp_path / "p.parquet", tgt_lang=["eng"])
    check(call("score", *MODEL, "--pairs", "p.parquet", "--out", "o"), "p.parquet", "none of its 1 rows")


def test_training_on_fewer_pairs_than_a_batch_on_none_and_on_one_language(call, tmp_path):
    (tmp_path / "c.yaml").write_text("training: {batch_pairs: 64, steps: 2}\n")
    pairs(tmp_path / "p.parquet")
    train = ("train", "c.yaml", "--pairs", "p.parquet", "--out", "o")
    check(call(*train), "training.batch_pairs is 64", "only 1 pairs", "lower training.batch_pairs")
    nothing = {"source": ["x"], "cosine": [0.1], "margin": [1.0], "confidence": [0.0], "origin": ["parallel"]}
    ids = {"src_id": ["a"], "tgt_id": ["b"], "round": [0], "stable_rounds": [0]}
    pairs(tmp_path / "p.parquet", **nothing, **ids)
    check(call(*train), "no pair is left", "1 below threshold", "pairs.use_confidence_as_weight")
    pairs(tmp_path / "p.parquet", tgt_lang=["eng"])
    check(call(*train), "p.parquet", "none of its 1 rows")


def lines(tmp_path, **columns):
    for name in ("a", "b"):
        pq.write_table(pa.table({"text": ["one", "two"], **columns}), tmp_path / f"{name}.parquet")
    return "mine", *MODEL, "--source", "a.parquet", "--target", "b.parquet", "--out", "o"


def test_mining_a_language_against_itself(call, tmp_path):
    arguments = lines(tmp_path, lang=["eng", "eng"])
    check(call(*arguments), "a.parquet and b.parquet: both hold eng", "--src-lang")


def test_mining_a_file_of_two_languages(call, tmp_path):
    check(call(*lines(tmp_path, lang=["eng", "deu"])), "a.parquet", "deu, eng", "one language")


def test_invalid_utf8_names_the_line(call, tmp_path):
    (tmp_path / "p.tsv").write_bytes(b"src\ttgt\n\xff\xfe bad\tworse\n")
    check(call("score", *MODEL, "--pairs", "p.tsv", "--out", "o"), "p.tsv", "line 2", "UTF-8")


def test_a_line_of_a_megabyte_names_the_line(call, tmp_path):
    (tmp_path / "p.tsv").write_text("src\ttgt\n" + "x" * 1_000_000 + "\tshort\n")
    check(call("score", *MODEL, "--pairs", "p.tsv", "--out", "o"), "p.tsv", "line 2", "characters")


def test_ragged_rows_over_the_limit_stop(call, tmp_path):
    (tmp_path / "p.tsv").write_text("src\ttgt\n" + "one\teins\nlonely\n" * 80)
    check(call("score", *MODEL, "--pairs", "p.tsv", "--out", "o"), "p.tsv", "max_row_fault_share")


def test_parquet_that_is_text(call, tmp_path):
    (tmp_path / "p.parquet").write_text("src,tgt\na,b\n")
    check(call("score", *MODEL, "--pairs", "p.parquet", "--out", "o"), "p.parquet")


def test_clean_of_a_missing_file_and_of_an_unknown_kind(call, tmp_path):
    check(call("clean", "no.tsv", "--out", "o"), "no.tsv", "no such file")
    pairs(tmp_path / "p.parquet")
    check(call("clean", "p.parquet", "--kind", "words", "--out", "o"), "--kind words")


def test_ablate_of_an_unknown_arm_and_of_nothing(call, tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 1\n")
    check(call("ablate", "c.yaml", "--arm", "without luck"), "without luck", "with hardness")
    check(call("ablate", "c.yaml"), "nothing to train on")


def test_a_later_model_that_is_missing_is_found_before_the_first_is_measured(call, tmp_path):
    pairs(tmp_path / "p.parquet")
    (tmp_path / "s.yaml").write_text("tasks: [{task: retrieval, data: p.parquet}]\n")
    (tmp_path / "empty").mkdir()
    for later, word in (("./gone", "no such directory"), ("empty", "no config.json"), ("builtin:e6", "e6")):
        code, text = call("evaluate", *MODEL, "--model", later, "--suite", "s.yaml")
        check((code, text), later, word)
        assert "evaluate 2 models" not in text


def test_suite_of_a_missing_file_and_an_unknown_task(call, tmp_path):
    check(call("evaluate", *MODEL, "--suite", "s.yaml"), "s.yaml")
    (tmp_path / "s.yaml").write_text("tasks: [{task: retrival, data: x.parquet}]\n")
    check(call("evaluate", *MODEL, "--suite", "s.yaml"), "tasks.0.task")


def test_a_run_reads_its_suite_before_it_starts(call, tmp_path):
    """Not when hours of training are over."""
    source = pairs(tmp_path / "p.parquet")
    (tmp_path / "c.yaml").write_text(f"corpora: [{{path: {source}}}]\nevaluation: {{suite: s.yaml}}\n")
    check(call("run", "c.yaml", "--out", "r"), "s.yaml")
    (tmp_path / "s.yaml").write_text("tasks: [{task: retrieval, data: nowhere.parquet}]\n")
    check(call("run", "c.yaml", "--out", "r"), "nowhere.parquet")
    pq.write_table(pa.table({"english": ["a"]}), tmp_path / "nowhere.parquet")
    check(call("run", "c.yaml", "--out", "r"), "nowhere.parquet", "src")
    assert not (tmp_path / "r").exists()
