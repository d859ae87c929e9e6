"""Console tables, places and model card, on figures that are known."""

from __future__ import annotations

import ast
import io
import json

import yaml
from rich.console import Console

from xalign_dist.records import Metric
from xalign_dist.reporting.console import print_where, run_tables, summary_tables
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


def printed(*renderables, width=80, color=None):
    console = Console(file=io.StringIO(), width=width, force_terminal=color is not None, color_system=color)
    for r in renderables:
        console.print(r)
    return console.file.getvalue()


def cells(text, label):
    return next(line for line in text.splitlines() if label in line).split(label)[1].split()


def test_metrics_alone_give_all_three_tables():
    shown = printed(*summary_tables(METRICS))
    assert cells(shown, "All languages, mean") == ["50.0", "60.0", "75.0", "+25.0", "+15.0"]
    assert cells(shown, "Irish") == ["40.0", "–", "65.0", "+25.0", "–"]
    assert cells(shown, "German") == ["100", "21.0", "17.0", "to", "25.0", "20.0", "–", "–"]
    assert cells(shown, "All languages   ") == ["1", "–", "88.0", "91.0", "–"]


def test_a_whole_run_is_readable_at_80_columns(run_dir):
    shown = printed(*run_tables(str(run_dir)))
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    order = [
        shown.index(x) for x in ("Arabic", "High-resource, mean", "Icelandic", "Low-resource, mean", "Telugu")
    ]
    assert order == sorted(order)
    assert cells(shown, "Lexicon P@1") == ["33.3", "40.6", "46.2", "+12.8", "+5.5"]
    assert cells(shown, "Arabic *")[:5] == ["1,500", "32.0", "29.0", "to", "35.0"]
    assert cells(shown, "Welsh      ")[-5:] == ["30.0", "44.0", "59.0", "+29.0", "+15.0"]
    assert "\x1b[32m" in printed(*run_tables(str(run_dir)), color="standard")


def test_models_side_by_side_have_no_gains():
    metrics = [row(m, "retrieval", "accuracy", v) for m, v in (("org/[red]one", 0.5), ("two", 0.6))]
    shown = printed(*summary_tables(metrics))
    assert "org/[red]one" in shown
    assert "vs." not in shown
    assert cells(shown, "All languages, mean") == ["50.0", "60.0"]


def test_named_models_keep_their_order_and_the_first_is_compared():
    values = (("a", 0.5), ("b", 0.6), ("c", 0.45))
    metrics = [row(m, "retrieval", "accuracy", v) for m, v in values]
    shown = printed(*summary_tables(metrics, models=["b", "c", "a"]))
    assert (
        shown.index(" b ")
        < shown.index(" c ")
        < shown.index(" a ")
        < shown.index("vs. c")
        < shown.index("vs. a")
    )
    assert cells(shown, "All languages, mean") == ["60.0", "45.0", "50.0", "+15.0", "+10.0"]


def test_nothing_measured_gives_no_table():
    assert summary_tables([]) == []


def test_text_from_the_corpus_is_no_markup(run_dir):
    path = run_dir / "pairs/round=2/audit.json"
    audit = json.loads(path.read_text())
    audit["entries"][0] |= {"tgt_lang": "[bold red]x", "source": "[blink]"}
    path.write_text(json.dumps(audit))
    assert "[bold red]x" in printed(*run_tables(str(run_dir)))


def test_places_and_python_lines_are_printed_whole(tmp_path):
    console = Console(file=io.StringIO(), width=60)
    run = str(tmp_path / ("deep[red]\"'" * 8))
    print_where(run, console)
    shown = console.file.getvalue()
    assert f"{run}/report.html" in shown
    code = "\n".join(line.strip() for line in shown.splitlines()[-3:])
    tree = ast.parse(code)
    assert len(tree.body) == 3
    assert f"{run}/model" in [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_model_card_has_front_matter_and_figures(run_dir):
    card = model_card(str(run_dir))
    front = front_matter(card)
    assert front["library_name"] == "sentence-transformers"
    assert front["pipeline_tag"] == "sentence-similarity"
    assert {"de", "en", "cy", "ug"} <= set(front["language"])
    assert "base_model" not in front, "builtin weights have no page to point to"
    results = front["model-index"][0]["results"]
    assert results[0]["metrics"] == [{"type": "accuracy", "value": 0.7692, "name": "Retrieval accuracy"}]
    assert "| Retrieval accuracy, Low-resource | 36.0 | 14.0 | 50.0 | 65.0 | 63.1 to 66.9 |" in card
    assert "Low-resource (pairs mined from monolingual text): Icelandic, Irish" in card
    assert "9,000 parallel pairs, 22.0 % of them estimated to be no translations" in card
    assert "2,110 mined pairs in round 2" in card
    assert "steps: `200`" in card


def test_model_card_of_a_bare_run(tmp_path):
    config = {"encoder": {"model": "intfloat/multilingual-e5-small", "query_prefix": "query: "}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    card = model_card(str(tmp_path))
    assert front_matter(card)["base_model"] == "intfloat/multilingual-e5-small"
    assert "model-index" not in front_matter(card)
    assert "Trained with prefixes: `query: ` before a query." in card
    assert "## Evaluation" not in card
