import json
import math

import pytest

from xalign_dist.errors import DataError, OutputError
from xalign_dist.evaluation.metrics import group_of, macro_average, read_metrics, write_metrics
from xalign_dist.records import Metric


def row(src="eng", tgt="deu", value=0.5, **changes):
    fields = {
        "model": "adaptive",
        "round": 1,
        "task": "retrieval",
        "metric": "accuracy",
        "src_lang": src,
        "tgt_lang": tgt,
        "value": value,
        "low": 0.4,
        "high": 0.6,
        "n": 10,
        "seed": 0,
    }
    return Metric(**{**fields, **changes})


def test_what_is_written_is_read_back(tmp_path):
    rows = [row(), row(tgt="gle", low=None, high=None)]
    path = tmp_path / "new" / "metrics.json"
    write_metrics(rows, str(path))
    assert read_metrics(str(path)) == rows
    document = json.loads(path.read_text())
    assert document["schema"] == 1
    assert set(document["metrics"][0]) == {
        "model",
        "round",
        "task",
        "metric",
        "src_lang",
        "tgt_lang",
        "value",
        "low",
        "high",
        "n",
        "seed",
    }


def test_a_uri_works_as_well():
    write_metrics([row()], "memory://run/metrics.json")
    assert read_metrics("memory://run/metrics.json") == [row()]


def test_a_refused_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "metrics.json"
    write_metrics([row()], str(path))
    with pytest.raises(OutputError, match="value of adaptive retrieval accuracy eng-gle is nan"):
        write_metrics([row(tgt="gle", value=math.nan)], str(path))
    assert read_metrics(str(path)) == [row()]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_metrics([row()], str(tmp_path / "file" / "metrics.json"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not readable as JSON"),
        ('{"schema": 2, "metrics": []}', "schema 1"),
        ("[]", "schema 1"),
        ('{"schema": 1, "metrics": [{"model": "x"}]}', r"metrics\[0\]"),
    ],
)
def test_other_files_are_refused(tmp_path, text, match):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(DataError, match=match):
        read_metrics(str(path))
    with pytest.raises(DataError, match="no such file"):
        read_metrics(str(tmp_path / "gone.json"))


GROUPS = {"high": {"deu", "fra"}, "low": {"gle"}}


def test_macro_rows_weigh_language_pairs_alike():
    rows = [row(value=0.9, n=1000), row(tgt="gle", value=0.1, n=10), row(tgt="ben", value=0.5)]
    averages = {m.src_lang: m for m in macro_average(rows, GROUPS)}
    assert {k: m.value for k, m in averages.items()} == pytest.approx({"all": 0.5, "high": 0.9, "low": 0.1})
    assert averages["all"].n == 1020
    assert averages["all"].tgt_lang == "all"


def test_macro_rows_keep_models_apart_and_leave_out_averages_and_single_languages():
    rows = [row(value=0.2), row(model="initial", value=0.8), row("all", "all", 0.0), row("eng", "eng", 0.0)]
    averages = {(m.model, m.src_lang): m.value for m in macro_average(rows, GROUPS)}
    assert averages[("adaptive", "all")] == 0.2
    assert averages[("initial", "all")] == 0.8
    assert ("adaptive", "low") not in averages


def test_a_pair_counts_for_its_harder_side():
    assert group_of("eng", "deu", GROUPS) == "high"
    assert group_of("deu", "gle", GROUPS) == "low"
    assert group_of("gle", "all", GROUPS) == "low"
    assert group_of("eng", "all", GROUPS) is None
