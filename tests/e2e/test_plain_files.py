"""Every verb on small plain files of real text, in one process and on one embedded Ray."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import django
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from xalign_dist import cli
from xalign_dist.config import CorpusConfig, RuntimeConfig
from xalign_dist.corpora.read import read_corpus
from xalign_dist.runtime.session import ray_session

MODEL = ("--model", "builtin:e5-small?layers=4")
PAIRS, CORRUPTED = 100, 20
CATALOGS = ("conf/locale", "contrib/admin/locale", "contrib/auth/locale")
CONFIG = {
    "corpora": [{"path": "pairs.jsonl", "source": "tiny"}],
    "encoder": {"model": "builtin:e5-small?layers=1"},
    "scoring": {"reference": "builtin:e5-small?layers=1"},
    "mining": {"second_view": "none"},
    "training": {"steps": 2, "batch_pairs": 8},
    "rounds": {"count": 1},
    "evaluation": {"bootstrap": 100, "permutations": 100},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """English and German messages of Django: the same text as Parquet, jsonl, tsv and lines."""
    home = tmp_path_factory.mktemp("plain")
    seen: dict[str, str] = {}
    for part in CATALOGS:
        path = Path(django.__file__).parent / part / "de" / "LC_MESSAGES" / "django.po"
        corpus = CorpusConfig(path=str(path), src_lang="en", tgt_lang="de")
        for chunk in read_corpus(corpus):
            for src, tgt in zip(chunk.kept["src"].to_pylist(), chunk.kept["tgt"].to_pylist(), strict=True):
                if len(src) >= 20 and len(tgt) >= 20 and "\n" not in src + tgt and tgt not in seen.values():
                    seen.setdefault(src, tgt)
    src, tgt = list(seen)[:PAIRS], list(seen.values())[:PAIRS]
    assert len(src) == PAIRS
    # The first pairs are corrupted: each gets its neighbour's translation.
    wrong = tgt[1:CORRUPTED] + tgt[:1] + tgt[CORRUPTED:]
    pq.write_table(pa.table({"english": src, "german": wrong}), home / "noisy.parquet")
    (home / "noisy.tsv").write_text(
        "src\ttgt\n" + "".join(f"{s}\t{t}\n" for s, t in zip(src, wrong, strict=True)), "utf-8"
    )
    rows = [{"src": s, "tgt": t, "src_lang": "en", "tgt_lang": "de"} for s, t in zip(src, tgt, strict=True)]
    (home / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    (home / "en.txt").write_text("".join(f"{s}\n" for s in src), "utf-8")
    order = np.random.default_rng(0).permutation(PAIRS)
    shuffled = pa.table({"id": [f"de{i}" for i in order], "text": [tgt[i] for i in order]})
    pq.write_table(shuffled, home / "de.parquet")
    english = pa.table({"id": [f"en{i}" for i in range(PAIRS)], "text": src})
    pq.write_table(english, home / "en.parquet")
    pq.write_table(pa.table({"src": src, "tgt": tgt}), home / "test.parquet")
    (home / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    return home


@pytest.fixture(scope="module", autouse=True)
def one_ray(place):
    with ray_session(RuntimeConfig(), str(place / "ray.log")):
        yield


@pytest.fixture
def xalign(place, capsys, monkeypatch):
    def call(*arguments: str, code: int | None = 0) -> str:
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "argv", ["xalign", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = capsys.readouterr()
        call.code, call.err = end.value.code or 0, shown.err
        assert code is None or call.code == code, shown.out + shown.err
        return shown.out

    return call


@pytest.mark.parametrize(
    ("file", "columns"), [("noisy.parquet", "src=english,tgt=german"), ("noisy.tsv", "")]
)
def test_score_ranks_corrupted_pairs_last(xalign, place, file, columns):
    shown = xalign("score", *MODEL, "--pairs", file, "--columns", columns, "--out", file + ".out")
    assert "Noise audit" in shown
    table = pq.read_table(place / (file + ".out") / "pairs.parquet")
    assert table["tgt"].to_pylist() == pq.read_table(place / "noisy.parquet")["german"].to_pylist()
    margin = np.array(table["margin"].to_pylist())
    clean, wrong = margin[CORRUPTED:], margin[:CORRUPTED]
    assert (clean[:, None] > wrong[None, :]).mean() > 0.9
    (entry,) = json.loads((place / (file + ".out") / "audit.json").read_text())["entries"]
    assert entry["pairs"] == PAIRS
    assert abs(entry["noise_estimated"] - CORRUPTED / PAIRS) < 0.12
    assert set(table["src_lang"].to_pylist()) == {"und"}


def test_mined_pairs_are_the_translations(xalign, place):
    options = ("--source", "en.parquet", "--target", "de.parquet", "--out", "mined")
    shown = xalign("mine", *MODEL, *options, "--src-lang", "en", "--tgt-lang", "de")
    assert "predicted precision" in shown
    rows = [r for r in pq.read_table(place / "mined" / "pairs.parquet").to_pylist() if r["confidence"] > 0.5]
    right = sum(r["src_id"].removeprefix("en") == r["tgt_id"].removeprefix("de") for r in rows)
    assert right / len(rows) >= 0.9
    assert right >= PAIRS / 2
    assert {(r["src_lang"], r["tgt_lang"]) for r in rows} == {("eng", "deu")}


def test_clean_counts_every_row_and_says_why(xalign, place):
    texts = (place / "pairs.jsonl").read_text("utf-8")
    copy = json.loads(texts.splitlines()[0])
    bad = [copy, copy | {"tgt": copy["src"]}, copy | {"src": "x"}]
    (place / "dirty.jsonl").write_text(texts + "".join(json.dumps(r) + "\n" for r in bad) + "{broken\n")
    shown = xalign("clean", "dirty.jsonl", "--out", "clean")
    counts = json.loads((place / "clean" / "counts.json").read_text())["pairs"]
    assert counts["read"] == PAIRS + 4
    assert counts["read"] == counts["kept"] + sum(counts["rejected"].values())
    rejects = pq.read_table(place / "clean" / "rejects.parquet")
    assert {"exact_duplicate", "identical", "unreadable"} <= set(rejects["reason"].to_pylist())
    assert f"pairs read: {PAIRS + 4}" in shown
    xalign("clean", "noisy.tsv", "--out", "clean-tsv", "--src-lang", "en", "--tgt-lang", "de")
    langs = pq.read_table(place / "clean-tsv" / "pairs.parquet").select(["src_lang", "tgt_lang"])
    assert {tuple(r.values()) for r in langs.to_pylist()} == {("eng", "deu")}
    xalign("clean", "en.txt", "--kind", "sentences", "--out", "clean-lines")
    assert pq.read_table(place / "clean-lines" / "sentences.parquet").num_rows > PAIRS / 2


def test_accuracy_is_what_the_embeddings_say(xalign, place):
    suite = {
        "tasks": [
            {"task": "retrieval", "data": "test.parquet", "values": {"src_lang": "eng", "tgt_lang": "deu"}}
        ]
    }
    (place / "suite.yaml").write_text(yaml.safe_dump(suite))
    models = (*MODEL, "--model", "builtin:e5-small?layers=1")
    shown = xalign("evaluate", *models, "--suite", "suite.yaml", "--out", "evaluated/metrics.json")
    assert shown.index("layers=4") < shown.index("layers=1")
    metrics = json.loads((place / "evaluated" / "metrics.json").read_text())["metrics"]
    accuracies = [m for m in metrics if m["metric"] == "accuracy"]
    found, other = ({m["src_lang"]: m["value"] for m in accuracies if m["model"] == n} for n in models[1::2])
    assert found != other
    for side in ("en", "de"):
        xalign("encode", *MODEL, "--input", f"{side}.parquet", "--out", f"encoded-{side}")
    vectors = {}
    for side in ("en", "de"):
        table = pq.read_table(place / f"encoded-{side}" / "embeddings.parquet")
        rows = np.array(table["embedding"].to_pylist())
        vectors[side] = rows[np.argsort([int(i[2:]) for i in table["id"].to_pylist()])]
    similar = vectors["en"] @ vectors["de"].T
    truth = np.arange(PAIRS)
    assert found["eng"] == pytest.approx((similar.argmax(1) == truth).mean())
    assert found["deu"] == pytest.approx((similar.argmax(0) == truth).mean())
    written = json.loads((place / "evaluated" / "comparisons.json").read_text())["comparisons"]
    row = next(r for r in written if (r["metric"], r["lang"]) == ("accuracy", "eng-deu"))
    assert row["against"] == models[-1]
    assert row["difference"] == pytest.approx(found["eng"] - other["eng"])

    # Cut to a few words the same texts are told apart less well.
    short = ("evaluate", *MODEL, "--suite", "suite.yaml", "--out", "short/metrics.json")
    xalign(*short, "encoder.max_tokens=8")
    metrics = json.loads((place / "short" / "metrics.json").read_text())["metrics"]
    assert all(m["value"] < found[m["src_lang"]] for m in metrics if m["metric"] == "accuracy")
    xalign(*short, "encoder.projection=linear", code=2)
    assert "encoder.projection is for training" in xalign.err


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_ablate_and_report_against(xalign, place):
    two = ("--arm", "with hardness", "--arm", "fixed InfoNCE")
    shown = xalign("ablate", "c.yaml", "--out", "ablated", *two)
    assert "with hardness" in shown
    rows = json.loads((place / "ablated" / "ablation.json").read_text())["comparisons"]
    assert {r["against"] for r in rows} == {"with hardness", "fixed InfoNCE"}
    full, bare = "ablated/seed=0/full", "ablated/seed=0/with-hardness"
    # What is the same for all arms is made once: the same files, not copies.
    vectors = next((place / "ablated/shared/corpus/vectors").rglob("block-*.parquet"))
    own = place / full / vectors.relative_to(place / "ablated/shared")
    assert own.stat().st_ino == vectors.stat().st_ino
    # Of its training an arm keeps the encoder and what it was trained on, no optimizer states.
    assert {p.name for p in (place / full).glob("arms/*/round=*/*")} == {
        "inputs",
        "model",
        "training_pairs.parquet",
    }
    trained = {arm: (place / arm / "arms").stat().st_mtime_ns for arm in (full, bare)}
    items = pq.read_table(place / full / "items.parquet").to_pylist()
    metrics = json.loads((place / full / "metrics.json").read_text())["metrics"]
    accuracy = [m for m in metrics if (m["task"], m["metric"]) == ("retrieval", "accuracy")]
    for m in (m for m in accuracy if m["src_lang"] != "all"):
        pair = f"{m['src_lang']}-{m['tgt_lang']}"
        key = ("retrieval", "accuracy", pair)
        own = [r["score"] for r in items if (r["task"], r["metric"], r["lang"]) == key]
        assert len(own) == m["n"]
        assert np.mean(own) == pytest.approx(m["value"])
    # Two steps apart the arms may differ by a hair in every sentence: the exit code says what the table says.
    shown = xalign("report", full, "--against", bare, code=None)
    worse = int(re.search(r"(\d+) worse", shown)[1])
    assert xalign.code == (1 if worse else 0)
    assert "0 significantly better, 0 worse" in xalign("report", full, "--against", full)
    page = (place / full / "report.html").read_text("utf-8")
    assert "with hardness" in page
    assert "CPU core hours held" in page
    # In the report of the full method fixed InfoNCE is the baseline, in macro averages too.
    beside = json.loads((place / full / "comparisons.json").read_text())["comparisons"]
    assert ("infonce", "all") in {(r["against"], r["lang"]) for r in beside}
    xalign("report", "ablated", code=2)
    assert "give ablated/seed=0/full" in xalign.err
    xalign("ablate", "c.yaml", "--out", "ablated", *two)
    assert trained == {arm: (place / arm / "arms").stat().st_mtime_ns for arm in (full, bare)}
    assert json.loads((place / "ablated" / "ablation.json").read_text())["comparisons"] == rows
    # A further seed alone, as on a second machine: the first is neither trained nor in the table.
    (place / "ablated" / "seed=0").rename(place / "elsewhere")
    xalign("ablate", "c.yaml", "--out", "ablated", "--first-seed", "1", "--arm", "full")
    assert [p.name for p in (place / "ablated").glob("seed=*")] == ["seed=1"]
    measured = json.loads((place / "ablated" / "metrics.json").read_text())["metrics"]
    assert {(m["model"], m["seed"]) for m in measured} == {("full", 1)}


@pytest.mark.timeout(600)
def test_train_on_plain_pairs_gives_a_model(xalign, place):
    xalign("train", "c.yaml", "--pairs", "pairs.jsonl", "--out", "trained")
    xalign("encode", "--model", "trained/model", "--input", "en.txt", "--out", "encoded-trained")
    assert pq.read_table(place / "encoded-trained" / "embeddings.parquet").num_rows == PAIRS


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_corpus_that_grew_is_trained_on_and_one_that_did_not_is_not(xalign, place):
    """The old last checkpoint, of as many steps, must not stand for the new training."""
    rows = (place / "pairs.jsonl").read_text("utf-8").splitlines(keepends=True)
    weights = place / "grown" / "model" / "model.safetensors"
    command = ("train", "c.yaml", "--pairs", "growing.jsonl", "--out", "grown")
    (place / "growing.jsonl").write_text("".join(rows[:60]), "utf-8")
    xalign(*command)
    before = weights.read_bytes()
    assert "skip  train on 60 pairs" in xalign(*command)
    assert weights.read_bytes() == before
    (place / "growing.jsonl").write_text("".join(rows), "utf-8")
    assert re.search(rf"done  train on {PAIRS} pairs  2 steps", xalign(*command))
    assert weights.read_bytes() != before
