"""Console tables, model card and the comparison of two runs, on a run directory with known figures."""

from __future__ import annotations

import io
import json

import yaml
from rich.console import Console

from xalign_dist.records import Metric
from xalign_dist.reporting.against import compare_runs
from xalign_dist.reporting.console import print_where, summary_tables
from xalign_dist.reporting.model_card import model_card


def row(model, task, metric, value, lang="all", round_=1, low=None, high=None):
    src = lang if lang in ("all", "high", "low") else "eng"
    return Metric(model, round_, task, metric, src, lang, value, low, high, 100, 0)


METRICS = [
    row("initial", "retrieval", "accuracy", 0.5),
    row("infonce", "retrieval", "accuracy", 0.6),
    row("adaptive", "retrieval", "accuracy", 0.75, low=0.7, high=0.8),
    row("initial", "retrieval", "accuracy", 0.4, "gle"),
    row("adaptive", "retrieval", "accuracy", 0.65, "gle"),
    row("adaptive", "audit", "noise_estimated", 0.21, "deu", low=0.17, high=0.25),
    row("adaptive", "audit", "noise_true", 0.2, "deu"),
    row("adaptive", "mining", "precision", 0.91, "all"),
    row("adaptive", "mining", "predicted_precision", 0.88, "all"),
    row("adaptive", "mining", "precision", 0.95, "all", round_=2),
]


def printed(*renderables, width=80):
    console = Console(file=io.StringIO(), width=width)
    for r in renderables:
        console.print(r)
    return console.file.getvalue()


def test_tables_show_the_three_arms_audit_and_rounds():
    shown = printed(*summary_tables(METRICS, {"gle": "low"}))
    head = next(line for line in shown.splitlines() if "Retrieval, All languages" in line)
    assert [x for x in ("50.0", "60.0", "75.0", "+25.0") if x not in head] == []
    assert "Irish (low)" in shown
    assert "17.0 to 25.0" in shown
    assert "91.0" in shown
    assert "95.0" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_places_and_python_lines_are_printed_whole(tmp_path):
    console = Console(file=io.StringIO(), width=60)
    run = str(tmp_path / ("deep[red]" * 8))
    print_where(run, console)
    shown = console.file.getvalue()
    assert f'model = SentenceTransformer("{run}/model")' in shown
    assert f"{run}/report.html" in shown


def write_run(path, metrics, **config):
    path.mkdir()
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "metrics.json").write_text(json.dumps({"schema": 1, "metrics": [m.to_json() for m in metrics]}))
    return str(path)


def test_model_card_has_front_matter_and_figures(tmp_path):
    run = write_run(
        tmp_path / "run",
        METRICS,
        encoder={"model": "intfloat/multilingual-e5-small"},
        corpora=[{"kind": "pairs", "src_lang": "eng", "tgt_lang": "deu"}],
    )
    card = model_card(run)
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "sentence-transformers"
    assert front["base_model"] == "intfloat/multilingual-e5-small"
    assert front["language"] == ["deu", "eng"]
    assert "| 50.0 | 60.0 | 75.0 |" in card


def test_only_intervals_that_part_are_a_loss(tmp_path):
    def one(name, value, low, high):
        return write_run(
            tmp_path / name, [row("adaptive", "retrieval", "accuracy", value, low=low, high=high)]
        )

    base = one("base", 0.75, 0.70, 0.80)
    assert not compare_runs(one("near", 0.72, 0.67, 0.77), base).significant_loss
    worse = compare_runs(one("worse", 0.6, 0.55, 0.65), base)
    assert worse.significant_loss
    assert "−15.0" in printed(worse.table())
    better = compare_runs(base, one("worse2", 0.6, 0.55, 0.65))
    assert [r.verdict for r in better.rows] == ["better"]


def test_errors_count_the_other_way_round(tmp_path):
    def one(name, low, high):
        middle = (low + high) / 2
        return write_run(tmp_path / name, [row("adaptive", "retrieval", "xsim", middle, low=low, high=high)])

    assert compare_runs(one("a", 0.4, 0.5), one("b", 0.1, 0.2)).significant_loss
    assert not compare_runs(one("c", 0.1, 0.2), one("d", 0.4, 0.5)).significant_loss
