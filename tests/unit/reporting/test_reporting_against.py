"""Two runs compared: paired by items where both have them, else by intervals; Holm-corrected."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from xalign_dist.cli import main
from xalign_dist.errors import DataError
from xalign_dist.records import Metric
from xalign_dist.reporting.against import compare_runs


def row(value, lang="all", metric="accuracy", low=None, high=None, task="retrieval"):
    src = lang if lang in ("all", "high", "low") else "eng"
    return Metric("adaptive", 1, task, metric, src, lang, value, low, high, 100, 0)


def write_run(path, metrics, items=()):
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump({"seed": 0}))
    (path / "metrics.json").write_text(json.dumps({"schema": 1, "metrics": [m.to_json() for m in metrics]}))
    if items:
        pq.write_table(pa.Table.from_pylist(list(items)), path / "items.parquet")
    return str(path)


def around(value, half=0.05, **more):
    return row(value, low=value - half, high=value + half, **more)


def test_intervals_must_part(tmp_path):
    base = write_run(tmp_path / "base", [around(0.75)])
    near = compare_runs(write_run(tmp_path / "near", [around(0.68)]), base)
    assert [r.verdict for r in near.rows] == ["same"]
    worse = compare_runs(write_run(tmp_path / "worse", [around(0.60)]), base)
    assert worse.significant_loss
    assert worse.rows[0].how == "intervals"
    # sd of the difference: 0.05 / 1.96 * sqrt(2); z = 4.158
    assert worse.rows[0].p == pytest.approx(3.2e-5, rel=0.02)
    back = compare_runs(base, str(tmp_path / "worse"))
    assert [r.verdict for r in back.rows] == ["better"]
    assert not back.significant_loss


def test_the_command_exits_1_on_a_loss_and_0_otherwise(tmp_path, capsys, monkeypatch):
    better = write_run(tmp_path / "better", [around(0.75)])
    worse = write_run(tmp_path / "worse", [around(0.60)])
    for run in (better, worse):
        Path(run, "manifest.json").write_text('{"schema": 1, "versions": {}, "stages": {}}')
    for words, code, said in (
        ((worse, "--against", better), 1, "0 significantly better, 1 worse"),
        ((better, "--against", worse), 0, "1 significantly better, 0 worse"),
        ((worse,), 0, "report:"),
    ):
        monkeypatch.setattr(sys, "argv", ["xalign", "report", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == code
        assert said in capsys.readouterr().out


def test_errors_count_the_other_way_round(tmp_path):
    a = write_run(tmp_path / "a", [around(0.45, metric="xsim")])
    b = write_run(tmp_path / "b", [around(0.15, metric="xsim")])
    assert compare_runs(a, b).significant_loss
    assert not compare_runs(b, a).significant_loss


def test_one_odd_language_among_many_is_chance_after_correction(tmp_path):
    langs = [f"l{i}" for i in range(60)]
    base = write_run(tmp_path / "base", [around(0.5, lang=x) for x in langs])
    shifted = [around(0.39 if x == "l7" else 0.5, lang=x) for x in langs]
    many = compare_runs(write_run(tmp_path / "many", shifted), base)
    assert not many.significant_loss
    one = compare_runs(
        write_run(tmp_path / "one", [around(0.39, lang="l7")]),
        write_run(tmp_path / "b1", [around(0.5, lang="l7")]),
    )
    assert one.significant_loss, "the same difference alone is no chance"


def test_figures_that_describe_are_no_loss(tmp_path):
    a = write_run(tmp_path / "a", [around(0.1, task="similarity", metric="nonpairs")])
    b = write_run(tmp_path / "b", [around(0.9, task="similarity", metric="nonpairs")])
    assert [r.verdict for r in compare_runs(b, a).rows] == ["same"]


def items(hits, lang="eng-deu", model="adaptive"):
    fields = {"model": model, "task": "retrieval", "metric": "accuracy", "lang": lang}
    return [fields | {"item": f"m{i}", "score": float(h)} for i, h in enumerate(hits)]


def test_the_same_items_are_tested_in_pairs(tmp_path):
    hits = np.random.default_rng(0).random(200) < 0.5
    fewer = hits.copy()
    fewer[np.flatnonzero(hits)[:12]] = False

    def run(name, found):
        value = float(found.mean())
        metrics = [row(value, low=value - 0.07, high=value + 0.07, lang=x) for x in ("all", "deu")]
        return write_run(tmp_path / name, metrics, items(found))

    found = compare_runs(run("fewer", fewer), run("base", hits))
    # Twelve items differ, all one way: p = 2 / 2^12, though the intervals overlap widely.
    assert [(r.how, r.verdict) for r in found.rows] == [("items", "worse")] * 2
    assert found.rows[0].p < 0.002


def test_a_clear_loss_is_found_in_a_table_of_any_size(tmp_path):
    # Of 2,000 swaps none is as extreme: p would be 1 / 2,001, and over 150 figures not under 0.05.
    langs = [f"l{i}" for i in range(150)]
    hits = np.random.default_rng(0).random(200) < 0.5
    worse = hits & ~(np.cumsum(hits) <= 30)

    def run(name, of_l7):
        found = {x: of_l7 if x == "l7" else hits for x in langs}
        metrics = [around(float(h.mean()), lang=x) for x, h in found.items()]
        return write_run(
            tmp_path / name, metrics, [i for x, h in found.items() for i in items(h, f"eng-{x}")]
        )

    found = compare_runs(run("worse", worse), run("base", hits))
    assert [r.key for r in found.rows if r.verdict == "worse"] == ["l7"]
    assert {r.how for r in found.rows} == {"items"}


def test_items_that_do_not_make_the_figure_are_not_used(tmp_path):
    hits = np.ones(50)
    a = write_run(tmp_path / "a", [around(0.4)], items(hits))
    b = write_run(tmp_path / "b", [around(0.7)], items(hits))
    assert [r.how for r in compare_runs(a, b).rows] == ["intervals"]


def test_other_items_are_not_paired(tmp_path):
    a = write_run(tmp_path / "a", [around(1.0)], items(np.ones(50)))
    b = write_run(tmp_path / "b", [around(1.0)], items(np.ones(40)))
    assert [r.how for r in compare_runs(a, b).rows] == ["intervals"]


def test_a_run_against_itself_and_rows_of_one_run(tmp_path):
    a = write_run(tmp_path / "a", [around(0.5), around(0.4, task="lexicon", metric="p@1"), row(0.3, "gle")])
    b = write_run(tmp_path / "b", [around(0.5)])
    same = compare_runs(a, a)
    assert {r.verdict for r in same.rows} == {"same"}
    assert compare_runs(a, b).unmatched == 2


def test_nothing_in_common(tmp_path):
    a = write_run(tmp_path / "a", [row(0.5)])
    with pytest.raises(DataError, match="share no figure"):
        compare_runs(a, write_run(tmp_path / "b", [row(0.5, task="lexicon", metric="p@1")]))
    (tmp_path / "c").mkdir()
    (tmp_path / "c/config.yaml").write_text("seed: 0")
    with pytest.raises(DataError, match=r"c: no metrics.json"):
        compare_runs(a, str(tmp_path / "c"))


def test_the_table_shows_averages_and_changes(tmp_path):
    base = write_run(tmp_path / "base", [around(0.75), around(0.75, lang="deu"), around(0.5, lang="gle")])
    other = write_run(tmp_path / "other", [around(0.60), around(0.75, lang="deu"), around(0.2, lang="gle")])
    console = Console(file=io.StringIO(), width=80)
    console.print(compare_runs(other, base).table())
    shown = console.file.getvalue()
    assert "−15.0" in shown
    assert "Irish" in shown
    assert "German" not in shown
    assert "0 significantly better, 2 worse" in shown
