"""Every format gives the same records; compressed or not, local or behind a URI."""

import gzip
import json
import lzma
from pathlib import Path

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from corpus_reading import read_all, texts

PAIRS = [("Good morning", "Guten Morgen"), ("a \"quote\"", "ein „Zitat“"), ("two", "zwei")]  # fmt: skip
LANGS = {"src_lang": "en", "tgt_lang": "de"}
JSONL = "".join(json.dumps({"src": a, "tgt": b, "src_lang": "en", "tgt_lang": "de"}) + "\n" for a, b in PAIRS)
TSV = "".join(f"{a}\t{b}\n" for a, b in PAIRS)
COMPRESS = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: (
        zstandard.ZstdCompressor().compress(data[:20]) + zstandard.ZstdCompressor().compress(data[20:])
    ),
}


@pytest.mark.parametrize("ending", COMPRESS)
def test_text_formats_plain_and_compressed(tmp_path: Path, ending: str) -> None:
    pack = COMPRESS[ending]
    (tmp_path / f"a.jsonl{ending}").write_bytes(pack(JSONL.encode()))
    (tmp_path / f"a.tsv{ending}").write_bytes(pack(TSV.encode()))
    for side in (0, 1):
        lines = "".join(p[side] + "\n" for p in PAIRS)
        (tmp_path / f"a.{side}{ending}").write_bytes(pack(lines.encode()))
    jsonl = read_all(tmp_path / f"a.jsonl{ending}")
    tsv = read_all(tmp_path / f"a.tsv{ending}", **LANGS)
    moses = read_all(tmp_path / f"a.0{ending}", target_path=str(tmp_path / f"a.1{ending}"), **LANGS)
    assert texts(jsonl) == texts(tsv) == texts(moses) == PAIRS
    assert jsonl.kept["tgt_lang"].to_pylist() == ["deu"] * 3
    assert moses.kept["src_lang"].to_pylist() == ["eng"] * 3
    assert jsonl.rejects.num_rows == 0


def test_parquet_with_columns_mapped_and_ids_kept(tmp_path: Path) -> None:
    table = pa.table({"english": ["x", "y"], "german": ["u", "v"], "src": ["no", "no"], "n": [7, 8]})
    pq.write_table(table, tmp_path / "a.parquet")
    columns = {"src": "english", "tgt": "german", "src_id": "n"}
    found = read_all(tmp_path / "a.parquet", columns=columns, **LANGS)
    assert texts(found) == [("x", "u"), ("y", "v")]
    assert found.kept["src_id"].to_pylist() == ["7", "8"]
    assert found.kept["tgt_id"].to_pylist() == [f"{tmp_path.name}/a.parquet:{i}:tgt" for i in (0, 1)]
    assert found.kept["source"].to_pylist() == ["a", "a"]


def test_parquet_is_read_by_batches_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(
        pa.table({"text": [str(i) for i in range(1000)], "image": [b"x"] * 1000}),
        tmp_path / "a.parquet",
        row_group_size=100,
    )
    monkeypatch.setattr("xalign_dist.corpora.parquet._BATCH", 100)
    sizes: list[int] = []
    whole = pq.ParquetFile.iter_batches

    def counted(self, *args, **kwargs):
        for batch in whole(self, *args, **kwargs):
            sizes.append(batch.num_rows)
            assert batch.schema.names == ["text"]
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    found = read_all(tmp_path / "a.parquet", kind="sentences", src_lang="en", max_rows=150, rows_per_chunk=40)
    assert sizes == [100, 100]
    assert [t for (t,) in texts(found)] == [str(i) for i in range(150)]


def test_tsv_header_mapped_header_and_numbered_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("\ufefftgt\tsrc\tsrc_lang\nzwei\ttwo\ten\n", "utf-8")
    assert texts(read_all(path, tgt_lang="de")) == [("two", "zwei")]
    path.write_text("de\ten\nzwei\ttwo\n")
    assert texts(read_all(path, columns={"src": "en", "tgt": "de"}, **LANGS)) == [("two", "zwei")]
    path.write_text("1.2\ttwo\tzwei\n1.1\tone\teins\n")
    numbered = read_all(path, columns={"src": "2", "tgt": "3"}, **LANGS)
    assert texts(numbered) == [("two", "zwei"), ("one", "eins")]


def test_sentences_in_any_file_of_lines(tmp_path: Path) -> None:
    for name in ("web.txt", "web.de", "web"):
        (tmp_path / name).write_text("eins\u2028und\tzwei\r\ndrei\n", "utf-8")
        found = read_all(tmp_path / name, kind="sentences", src_lang="de")
        assert texts(found) == [("eins\u2028und\tzwei",), ("drei",)]
        assert found.kept["id"].to_pylist()[0] == f"{tmp_path.name}/{name}:0:text"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_datasets_on_disk_and_their_arrow_files(tmp_path: Path) -> None:
    nested = datasets.Dataset.from_list([{"translation": {"en": a, "de": b}} for a, b in PAIRS])
    columns = {"src": "translation.en", "tgt": "translation.de"}
    nested.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": nested, "test": nested}).save_to_disk(str(tmp_path / "two"))
    assert texts(read_all(tmp_path / "one", columns=columns, **LANGS)) == PAIRS
    assert texts(read_all(tmp_path / "two", columns=columns, **LANGS)) == PAIRS + PAIRS
    (arrow,) = (tmp_path / "one").glob("*.arrow")
    assert texts(read_all(arrow, columns=columns, **LANGS)) == PAIRS


def test_any_fsspec_uri() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/corpora_formats/b.jsonl.gz", gzip.compress(JSONL.encode()))
    memory.pipe("/corpora_formats/a.tsv", TSV.encode())
    memory.pipe("/corpora_formats/left", b"one\n")
    memory.pipe("/corpora_formats/right", b"eins\n")
    assert texts(read_all("memory://corpora_formats/b.jsonl.gz")) == PAIRS
    assert texts(read_all("memory://corpora_formats/*.*", **LANGS)) == PAIRS * 2
    sides = {"path": "memory://corpora_formats/left", "target_path": "memory://corpora_formats/right"}
    assert texts(read_all(**sides, **LANGS)) == [("one", "eins")]
