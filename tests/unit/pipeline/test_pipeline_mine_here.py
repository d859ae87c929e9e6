"""`xalign mine` where all is embedded and one process is enough: no Ray, and the same pairs."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from rich.console import Console

from xalign_dist.config import RunConfig
from xalign_dist.errors import ResourceError
from xalign_dist.mining import exact_knn, mine, plan
from xalign_dist.pipeline import files
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.files import mine_files, read_records
from xalign_dist.records import text_keys
from xalign_dist.runtime.demand import Group
from xalign_dist.runtime.resources import Resources
from xalign_dist.runtime.search import require_room
from xalign_dist.runtime.vectors import EmbedJob

MODEL = "builtin:e5-small"
CONFIG = RunConfig()
DIM = 24


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def planted(rows: int) -> tuple[list[str], list[str], np.ndarray]:
    """English and Irish sentences, half of them translations, and their vectors in this order."""
    rng = np.random.default_rng(5)
    meaning = rng.normal(size=(rows, DIM)) + 0.7
    other = meaning + 0.3 * rng.normal(size=meaning.shape)
    other[rows // 2 :] = rng.normal(size=(rows - rows // 2, DIM)) + 0.7
    texts = [[f"sentence {i} of {lang}" for i in range(rows)] for lang in ("English", "Irish")]
    return texts[0], texts[1], unit(np.concatenate([meaning, other]))


def embedded(folder: Path, texts: list[str], vectors: np.ndarray) -> None:
    """As an earlier command leaves them: a block of vectors in two views."""
    job = EmbedJob(MODEL, CONFIG.encoder.model_copy(update={"model": MODEL}), view_layer=-4)
    columns = {"key": pa.array(text_keys(texts))}
    for name, view in (("main", vectors), ("view", vectors[:, ::-1])):
        flat = pa.array(np.ascontiguousarray(view).reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, DIM)
    home = folder / "_work" / "vectors" / job.fingerprint()
    home.mkdir(parents=True)
    # An earlier corpus held a text that this one has no more.
    for number, rows in enumerate((slice(0, 100), slice(100, None))):
        pq.write_table(pa.table(columns)[rows], home / f"block-{number:06d}.parquet")


@pytest.mark.parametrize("gone", [0, 3])
def test_no_ray_is_started_and_the_pairs_are_those_of_the_twin(tmp_path: Path, gone: int) -> None:
    english, irish, vectors = planted(240)
    embedded(tmp_path / "out", english + irish, vectors)
    irish = irish[: len(irish) - gone]
    for name, texts in (("en.txt", english), ("ga.txt", irish)):
        (tmp_path / name).write_text("".join(t + "\n" for t in texts), "utf-8")
    files, said = [str(tmp_path / n) for n in ("en.txt", "ga.txt")], io.StringIO()

    def run() -> dict[str, object]:
        screen = Screen(False, Console(file=said, width=200))
        return mine_files(MODEL, *files, {}, str(tmp_path / "out"), CONFIG, screen, "en", "ga")

    counts = run()
    assert not ray.is_initialized()
    assert not (tmp_path / "out" / "_work" / "run.log").exists()
    assert "flat index of 240 x 24 on 1 shard: " in said.getvalue()
    assert f"embed  {len(english) + len(irish)} texts" in said.getvalue()
    ours = pq.read_table(tmp_path / "out" / "pairs.parquet")
    tables = [
        read_records(f, "sentences", {}, src_lang=x)[0] for f, x in zip(files, ("en", "ga"), strict=True)
    ]
    src, tgt = vectors[:240], vectors[240 : 240 + len(irish)]
    views = [(src, tgt), (src[:, ::-1], tgt[:, ::-1])]
    twin = mine(*tables, exact_knn, views, CONFIG.mining, 0, CONFIG.seed).pairs
    names = ["src_id", "tgt_id", "src", "tgt", "origin"]
    assert ours.select(names).equals(twin.select(names))
    for name in ("cosine", "margin", "confidence"):
        np.testing.assert_allclose(ours[name].to_numpy(), twin[name].to_numpy(), atol=1e-5)
    both = zip(ours["src"].to_pylist(), ours["tgt"].to_pylist(), strict=True)
    right = np.array([a.split()[1] == b.split()[1] for a, b in both])
    kept = ours["confidence"].to_numpy() > 0.5
    assert right[kept].sum() > 90
    assert right[kept].mean() > 0.85
    assert run() == counts, "again from the lists on disk"


def test_what_cannot_fit_is_refused_before_a_text_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SHARE_OF_MEMORY", 1e-6)  # of the machine's memory: some 20 kB
    for name in ("en.txt", "ga.txt"):
        (tmp_path / name).write_text("".join(f"{name} {i}\n" for i in range(400)), "utf-8")
    monkeypatch.setattr(files, "embed_corpus", lambda *_: pytest.fail("embedded"))
    sides = str(tmp_path / "en.txt"), str(tmp_path / "ga.txt")
    with pytest.raises(ResourceError, match="flat index of 400 vectors x 384 dimensions needs"):
        mine_files(MODEL, *sides, {}, str(tmp_path / "out"), CONFIG, Screen(False), "en", "ga")


def test_a_cluster_is_judged_by_its_memory_unless_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "memory": 4e9})
    settings, here = CONFIG.mining, Resources(cpus=8, gpus=0, nodes=2)

    def ask(rows: int, resources: Resources, **more: object) -> None:
        changed = settings.model_copy(update=more)
        require_room(changed, [(1000, rows)], 384, lambda: resources, alone=False)

    ask(1_000_000, here)  # 1.5 GB of 2
    with pytest.raises(ResourceError, match=r"set mining\.recall below 1"):
        ask(2_000_000, here)
    ask(2_000_000, here, recall=0.95)
    grows = replace(here, groups=(Group("data", {"CPU": 16.0}, {}, 8, grows=True),))
    ask(2_000_000, grows)
