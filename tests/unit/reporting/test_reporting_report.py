"""report.html: every section, nothing executable from the corpus, nothing loaded from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from synthetic_metrics import ATTACK, comparison_rows
from synthetic_run import write_json

from xalign_dist.errors import DataError
from xalign_dist.reporting.report import write_report

SECTIONS = {
    *("results", "languages", "differences", "audit", "mining"),
    *("training", "space", "examples", "cost", "config"),
}


class Page(HTMLParser):
    """Tags, ids and the contents of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: list[tuple[str, dict[str, str | None], str]] = []
        self.words: list[str] = []
        self._open: tuple[str, dict[str, str | None]] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = (tag, dict(attrs)) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.blocks.append((*self._open, data))
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def ids(self) -> set[str | None]:
        return {a.get("id") for _, a in self.tags}


def report(run: Path) -> tuple[str, Page]:
    html = Path(write_report(str(run))).read_text("utf-8")
    return html, Page(html)


def test_a_full_run_gives_every_section_under_two_megabytes(run_dir):
    html, page = report(run_dir)
    assert page.ids >= SECTIONS
    assert "is not in this run" not in page.text
    assert len(html.encode()) < 2_000_000
    for shown in (
        "Yes: adaptive training paid, low-resource languages included",
        "Pooled retrieval accuracy went from 51.1 % before training to 70.8 %",
        "Icelandic",
        "Gain over Fixed InfoNCE",
        "unstable estimate; few pairs",
        "Temperature τ",
        "Cross-lingual search MRR@10, Adaptive",
        "t-SNE",
        "Before: fixed InfoNCE; after: adaptive",
        "6 min 49 s",
        "word_alignment: static gives no states of single words; left out",
        "1,500",
    ):
        assert shown in page.text
    assert list(run_dir.glob("*.part")) == []


def test_corpus_text_never_becomes_markup(run_dir):
    html, page = report(run_dir)
    assert ATTACK not in html
    assert "<script>alert" not in html
    assert not [t for t, _ in page.tags if t in ("img", "iframe", "object", "embed", "link", "base")]
    assert ATTACK in page.text, "the example's query is shown as it is, as text"
    kinds = [a.get("type") for t, a, _ in page.blocks if t == "script"]
    assert kinds == ["application/json", None]
    data = next(b for t, a, b in page.blocks if a.get("type") == "application/json")
    assert "<" not in data
    assert any(text == ATTACK for _, _, text in json.loads(data)["texts"])


def test_markup_in_every_other_file_is_escaped(run_dir):
    bad = "<b onclick=x>\"'`"
    config = run_dir / "config.yaml"
    config.write_text(f"encoder: {{model: '{bad.replace(chr(39), '')}'}}\n# {bad}\n")
    audit_path = run_dir / "pairs/round=2/audit.json"
    audit = json.loads(audit_path.read_text())
    for entry in audit["entries"]:
        entry |= {"note": bad, "source": bad}
        for example in entry.get("examples") or []:
            example |= {"src": bad, "tgt": bad}
    write_json(audit_path, audit)
    rows = [r | {"note": bad, "baseline": bad} for r in comparison_rows()]
    write_json(run_dir / "comparisons.json", {"schema": 1, "comparisons": rows})
    (run_dir / "telemetry/adaptive.jsonl").rename(run_dir / f"telemetry/{bad.replace('/', '')}.jsonl")
    manifest = json.loads((run_dir / "manifest.json").read_text())
    manifest["stages"][bad] = {"seconds": 1, "counts": {bad: 1, "notes": [bad]}}
    manifest["versions"][bad] = bad
    write_json(run_dir / "manifest.json", manifest)
    html, page = report(run_dir)
    assert "<b onclick" not in html
    assert "onclick" in page.text
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_the_page_asks_for_nothing_and_runs_only_its_own_script(run_dir):
    html, page = report(run_dir)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        body = next(b for t, a, b in page.blocks if t == tag and not a.get("type"))
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [a for _, a in page.tags if a.get("src") or "style" in a]
    assert all(a["href"].startswith("#") for _, a in page.tags if a.get("href"))
    # The SVG namespace is a name; no browser fetches it.
    assert set(re.findall(r"(?:https?:)?//[a-z][\w.-]+\.[a-z]+[/\w]*", html)) <= {
        "http://www.w3.org/2000/svg"
    }


def test_phone_dark_mode_and_keyboard(run_dir):
    html, page = report(run_dir)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [a for _, a in page.tags]
    assert "prefers-color-scheme: dark" in html
    heads = re.findall(r'<th scope="col" aria-sort="none"[^>]*>(.*?)</th>', html, re.S)
    assert heads
    assert all(h.startswith('<button type="button">') for h in heads), "sorting is reached by keyboard"
    images = [a for t, a in page.tags if t == "svg"]
    assert all(a.get("aria-label") or a.get("aria-hidden") == "true" for a in images)
    tables = html.count("<table")
    assert html.count("<caption") == tables


def test_long_telemetry_and_its_cut_last_line(run_dir):
    file = run_dir / "telemetry/adaptive.jsonl"
    lines = [json.dumps({"step": i, "loss": 1.0 / i, "tau": 0.05}) for i in range(1, 20_001)]
    file.write_text("\n".join(lines) + '\n{"step": 20001, "lo')
    html, _ = report(run_dir)
    assert len(html) < 2_000_000
    points = re.findall(r'data-name="Adaptive" points="([^"]+)"', html)
    assert points
    assert max(len(p.split()) for p in points) <= 240


@pytest.mark.parametrize(
    ("missing", "said", "remedy"),
    [
        ("metrics.json", "The summary of results is not in this run", "xalign run"),
        ("comparisons.json", "The table of significance tests is not in this run", "xalign run"),
        ("pairs", "The noise audit is not in this run", "xalign score"),
        ("telemetry", "The telemetry of training is not in this run", "xalign run"),
        ("projection.parquet", "The projection is not in this run", "xalign run"),
        ("examples.parquet", "The list of examples is not in this run", "xalign run"),
        ("manifest.json", "The account of stages is not in this run", "xalign run"),
        ("config.yaml", "The configuration is not in this run", "xalign run"),
    ],
)
def test_a_missing_file_leaves_a_note_and_the_rest_stands(run_dir, missing, said, remedy):
    target = run_dir / missing
    target.rename(run_dir.parent / "away")
    _, page = report(run_dir)
    assert said in page.text
    assert f"{remedy} " in page.text.partition(said)[2]
    assert page.ids >= SECTIONS


def test_a_run_that_only_has_a_config_still_gives_a_report(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    _, page = report(tmp_path)
    assert "Not measured yet" in page.text
    assert page.text.count("is not in this run") >= 8


def test_a_run_at_a_uri(run_dir):
    memory = fsspec.filesystem("memory")
    memory.put(str(run_dir), "/reporting/run", recursive=True)
    path = write_report("memory://reporting/run")
    assert path == "memory://reporting/run/report.html"
    assert b"Noise audit" in memory.cat_file("/reporting/run/report.html")


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("manifest.json", "{", "manifest.json: not JSON"),
        ("comparisons.json", '{"comparisons": [{"task": "retrieval"}]}', "comparisons[0]"),
        ("metrics.json", '{"schema": 9}', "metrics.json"),
        ("pairs/round=1/audit.json", '{"entries": [{"pairs": 3}]}', "entries[0]"),
        ("telemetry/adaptive.jsonl", '{"step": 1\n{"step": 2}\n', "adaptive.jsonl:1"),
        ("projection.parquet", "PAR1", "projection.parquet"),
        ("config.yaml", "a: [", "config.yaml"),
    ],
)
def test_a_damaged_file_is_named(run_dir, file, content, named):
    (run_dir / file).write_text(content)
    with pytest.raises(DataError, match="remedy") as caught:
        write_report(str(run_dir))
    assert named in str(caught.value)


def test_a_projection_without_a_column_is_named(run_dir):
    path = run_dir / "projection.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["group"]), path)
    with pytest.raises(DataError, match="no column group"):
        write_report(str(run_dir))


def test_no_run_there(tmp_path):
    with pytest.raises(DataError, match="no such run directory"):
        write_report(str(tmp_path / "nothing"))


def test_pairs_nearest_to_the_threshold_are_shown_with_what_became_of_them(run_dir):
    _, page = report(run_dir)
    shown = page.text
    assert shown.index("deu whole") < shown.index("deu half")
    assert "kept" in shown[shown.index("deu whole") : shown.index("deu half")]
    assert "refused" in shown[shown.index("deu half") :][:60]
