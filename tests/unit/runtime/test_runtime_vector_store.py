"""The store of vectors: what the blocks say, in the order of the texts, in memory or mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xalign_dist.errors import DataError
from xalign_dist.records import text_keys
from xalign_dist.runtime import vector_store
from xalign_dist.runtime.vector_store import block_path, open_store, taken

TEXTS = [f"text {n}" for n in range(40)]
DIM = 8


def vector_of(text: str) -> np.ndarray:
    drawn = np.random.default_rng(int(text.split()[1])).standard_normal(DIM)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def put(folder: Path, number: int, texts: list[str], scale: float = 1.0) -> None:
    main = np.stack([vector_of(t) for t in texts]) * np.float32(scale)
    columns = {"key": pa.array(text_keys(texts))}
    for name, vectors in (("main", main), ("view", main[:, ::-1])):
        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, DIM)
    pq.write_table(pa.table(columns), block_path(folder, number), row_group_size=3)


@pytest.fixture(params=[vector_store.MAPPED_FROM, 0], ids=["in memory", "mapped"])
def folder(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(vector_store, "MAPPED_FROM", request.param)
    put(tmp_path, 0, TEXTS[10:30])
    put(tmp_path, 1, TEXTS[30:] + TEXTS[:10])
    return tmp_path


def test_vectors_come_in_the_order_of_the_texts(folder: Path) -> None:
    # Not all texts of the folder, and in an order that no block has.
    texts = TEXTS[35:] + TEXTS[5:25]
    store = open_store(folder, text_keys(texts), "name")
    assert isinstance(store.main, np.memmap) == (vector_store.MAPPED_FROM == 0)
    assert store.view is not None
    expected = np.stack([vector_of(t) for t in texts])
    np.testing.assert_array_equal(store.main, expected)
    np.testing.assert_array_equal(store.view, expected[:, ::-1])
    np.testing.assert_array_equal(store(["text 7", "text 36", "text 7"]), expected[[7, 1, 7]])
    with pytest.raises(DataError, match=r"1 texts have no vector, first: 'text 0'"):
        store(["text 36", "text 0"])


def test_of_a_text_in_two_blocks_the_first_counts(folder: Path) -> None:
    put(folder, 2, TEXTS[:5], scale=-1)
    store = open_store(folder, text_keys(TEXTS), "name")
    np.testing.assert_array_equal(store.main[0], vector_of(TEXTS[0]))


def test_a_corpus_that_grew_leaves_one_file_a_view(folder: Path) -> None:
    for count in (20, 40, 40):
        store = open_store(folder, text_keys(TEXTS[:count]), "name")
        assert len(store.main) == count
    whole = sorted(f.name.split(".")[-2] for f in folder.glob(".whole-*"))
    assert whole == (["main", "view"] if vector_store.MAPPED_FROM == 0 else [])


def test_rows_in_a_row_are_not_copied() -> None:
    vectors = np.arange(20.0, dtype=np.float32).reshape(10, 2)
    assert np.shares_memory(taken(vectors, np.arange(3, 7)), vectors)
    for rows in ([4, 3], [1, 3], []):
        found = taken(vectors, np.array(rows, np.int64))
        assert not np.shares_memory(found, vectors)
        np.testing.assert_array_equal(found, vectors[rows])
