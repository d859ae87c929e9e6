"""Ray Data streams: cleaning keeps corpus order, embedding is resumable and equals the local one."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xalign_dist.config import CleaningConfig, CorpusConfig, EncoderConfig, RuntimeConfig
from xalign_dist.encoder import embed_texts, load_encoder
from xalign_dist.errors import DataError, StageError
from xalign_dist.pipeline.clean import clean
from xalign_dist.records import SENTENCE
from xalign_dist.runtime import vectors
from xalign_dist.runtime.embed_pool import embed_pool
from xalign_dist.runtime.resources import cluster_resources
from xalign_dist.runtime.vectors import EmbedJob, embed_corpus, open_embedded

MODEL = "builtin:e5-small?layers=1"
CONFIG = EncoderConfig(model=MODEL)
TEXTS = ["The garden is green.", "Der Garten ist grün.", "Save", "Speichern", "Save", "Ein Haus am See"]


def write_sentences(path, texts, lang="eng"):
    rows = [
        {"id": f"{path.stem}{i}", "lang": lang, "text": t, "source": path.stem} for i, t in enumerate(texts)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SENTENCE), path)


def test_copies_fall_to_the_first_corpus_and_totals_add_up(ray_session, tmp_path):
    for name, texts in (("a", ["One house", "Two trees", "..."]), ("b", ["Two trees", "Three birds"])):
        write_sentences(tmp_path / f"{name}.parquet", texts)
    write_sentences(tmp_path / "c.parquet", ["Two trees"])
    corpora = [
        CorpusConfig(path=str(tmp_path / f"{n}.parquet"), kind="sentences", source=n, mining_group=g)
        for n, g in (("a", "g"), ("b", "g"), ("c", "other"))
    ]
    counts = clean(corpora, CleaningConfig(), tmp_path / "out")
    kept = pq.read_table(tmp_path / "out" / "sentences.parquet")["id"].to_pylist()
    assert kept == ["a0", "a1", "b1", "c0"], "within a group the first copy stays; groups do not mix"
    assert counts["sentences"] == {"read": 6, "kept": 4, "rejected": {"empty": 1, "exact_duplicate": 1}}
    assert json.loads((tmp_path / "out" / "counts.json").read_text()) == counts
    rejects = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert {(r["src_id"], r["reason"]) for r in rejects} == {("a2", "empty"), ("b0", "exact_duplicate")}


def test_nothing_left_after_cleaning_is_an_error(ray_session, tmp_path):
    write_sentences(tmp_path / "a.parquet", ["...", "!!"])
    corpus = CorpusConfig(path=str(tmp_path / "a.parquet"), kind="sentences")
    with pytest.raises(DataError, match="no sentences left"):
        clean([corpus], CleaningConfig(), tmp_path / "out")


def test_reader_errors_reach_the_user_as_they_are(ray_session, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        clean([CorpusConfig(path=str(tmp_path / "no.parquet"))], CleaningConfig(), tmp_path / "out")


def test_embedding_on_ray_equals_here_and_continues(ray_session, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "BLOCK_TEXTS", 2)
    job = EmbedJob(MODEL, CONFIG, view_layer=-2)
    done: list[int] = []
    run = RuntimeConfig()
    store = embed_corpus(TEXTS, job, str(tmp_path), run, cluster_resources(), done.append)
    assert sum(done) == 5, "a repeated text is embedded once"
    here = embed_texts(load_encoder(MODEL, CONFIG), TEXTS)
    np.testing.assert_allclose((store(TEXTS) * here).sum(1), 1, atol=2e-4)
    assert store.view.shape == (5, here.shape[1])

    block = next(tmp_path.rglob("block-000001.parquet"))
    block.unlink()
    assert open_embedded(TEXTS, job, str(tmp_path)) is None
    untouched = next(tmp_path.rglob("block-000000.parquet")).stat().st_mtime_ns
    again = embed_corpus(TEXTS, job, str(tmp_path), run, cluster_resources())
    np.testing.assert_allclose(again(TEXTS), store(TEXTS), atol=1e-6)
    assert next(tmp_path.rglob("block-000000.parquet")).stat().st_mtime_ns == untouched
    opened = open_embedded(TEXTS, job, str(tmp_path))
    np.testing.assert_array_equal(opened(TEXTS), again(TEXTS))
    assert opened.identity == again.identity
    with pytest.raises(DataError, match="have no vector"):
        store(["never seen"])

    done.clear()
    there = set(tmp_path.rglob("*.parquet"))
    grown = embed_corpus([*TEXTS[:3], "Neu"], job, str(tmp_path), run, cluster_resources(), done.append)
    assert done == [3, 1], "only the new text is embedded"
    assert len(set(tmp_path.rglob("*.parquet")) - there) == 1
    np.testing.assert_allclose(grown(TEXTS[:3]), store(TEXTS[:3]), atol=1e-6)
    assert grown.encoder == store.encoder
    assert grown.identity != store.identity
    with pytest.raises(DataError, match="have no vector"):
        grown(["Speichern"])
    next(iter(there)).write_bytes(b"torn")
    with pytest.raises(DataError, match="vectors that cannot be read"):
        open_embedded(TEXTS, job, str(tmp_path))


def test_pool_keeps_the_order_of_texts(ray_session):
    with embed_pool(MODEL, CONFIG, RuntimeConfig(embed_actors=2), cluster_resources()) as pool:
        found = pool(TEXTS)
    here = embed_texts(load_encoder(MODEL, CONFIG), TEXTS)
    np.testing.assert_allclose((found * here).sum(1), 1, atol=2e-4)


def test_lost_rows_are_noticed():
    from xalign_dist.cleaning import CleaningCounts

    with pytest.raises(StageError, match="accounts for"):
        CleaningCounts().add(3, 1, [])
