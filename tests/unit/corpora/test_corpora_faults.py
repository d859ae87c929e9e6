"""Bad input: rows become rejects that name file and row; files stop the run with a remedy."""

import gzip
import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from corpus_reading import read_all, texts

from xalign_dist.errors import ConfigError, DataError, DependencyError, LanguageError

LANGS = {"src_lang": "en", "tgt_lang": "de"}


def fault(path: Path, data: bytes, place: str, **settings: Any) -> str:
    """Read a file of which one row is bad; the reject's detail."""
    path.write_bytes(data)
    found = read_all(path, max_row_fault_share=0.5, **LANGS | settings)
    assert found.rejects.num_rows == 1
    assert found.kept.num_rows >= 1
    (row,) = found.rejects.to_pylist()
    assert row["reason"] == "unreadable"
    assert row["detail"].startswith(f"{path}, {place}: ")
    return row["detail"].partition(f"{place}: ")[2]


def test_rows_of_tsv(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    assert fault(path, b"a\tb\nonly one\n", "line 2") == "1 fields, not 2"
    assert fault(path, b"a\tb\nc\td\te\n", "line 2") == "3 fields, not 2"
    assert fault(path, b"a\tb\nx\t\xff\n", "line 2") == "invalid UTF-8 at byte 2"
    assert fault(path, b"a\t" + b"b" * 1_000_000 + b"\nc\td\n", "line 1").startswith("tgt has 1,000,000 char")
    assert fault(path, b"x" * (3 << 20) + b"\nc\td\n", "line 1") == "line is longer than 1,048,576 bytes"


def test_rows_of_jsonl(tmp_path: Path) -> None:
    path, good = tmp_path / "a.jsonl", b'{"src": "a", "tgt": "b"}\n'
    assert fault(path, good + b'{"src": "a"', "line 2").startswith("not JSON (")
    assert fault(path, good + b"\n[1]\n", "line 3") == "list, not an object"
    assert fault(path, good + b"[" * 100_000 + b"\n", "line 2").startswith("not JSON (")
    assert fault(path, good + b'{"src": "a"}\n', "line 2") == "tgt is null"
    assert fault(path, b'{"src": "a"}\n' + good, "line 1") == "tgt is null"
    assert fault(path, good + b'{"src": null, "tgt": "b"}\n', "line 2") == "src is null"
    assert fault(path, good + b'{"src": 5, "tgt": "b"}\n', "line 2") == "src is int, not text"
    assert (
        fault(path, good + b'{"src": "a\\ud800", "tgt": "b"}\n', "line 2")
        == "src is not Unicode at character 1"
    )
    assert fault(path, good + b'{"src_id": "\\ud800", "source": 3, "src": null}\n', "line 2") == "src is null"


def test_languages_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"src": "a", "tgt": "b", "tgt_lang": code} for code in ("de", "xx")]
    data = "".join(json.dumps(r) + "\n" for r in rows).encode()
    assert fault(path, data, "line 2", tgt_lang=None) == "tgt_lang: 'xx' is not a language code"
    assert fault(path, b"{\n" + data.splitlines()[0], "line 1", tgt_lang=None).startswith("not JSON")
    rows[1]["tgt_lang"] = None
    data = "".join(json.dumps(r) + "\n" for r in rows).encode()
    assert fault(path, data, "line 2", tgt_lang=None) == "tgt_lang is null"
    del rows[1]["tgt_lang"]
    data = "".join(json.dumps(r) + "\n" for r in rows).encode()
    assert fault(path, data, "line 2", tgt_lang=None) == "tgt_lang is null"


def test_rows_of_moses_stay_aligned_around_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_bytes(b"eins\n\xff\ndrei\n")
    target = str(tmp_path / "a.de")
    detail = fault(tmp_path / "a.en", b"one\ntwo\nthree\n", "line 2", target_path=target)
    assert detail == "tgt: invalid UTF-8 at byte 0"
    found = read_all(tmp_path / "a.en", target_path=target, max_row_fault_share=0.5, **LANGS)
    assert texts(found) == [("one", "eins"), ("three", "drei")]


def test_rows_of_parquet_with_text_that_is_no_text(tmp_path: Path) -> None:
    broken = pa.StringArray.from_buffers(
        2, pa.py_buffer(b"\x00\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00"), pa.py_buffer(b"a\xff\xfe")
    )
    pq.write_table(pa.table({"src": pa.array(["x", "y"]), "tgt": broken}), tmp_path / "a.parquet")
    found = read_all(tmp_path / "a.parquet", max_row_fault_share=0.5, **LANGS)
    assert texts(found) == [("x", "a")]
    assert found.rejects["detail"][0].as_py().endswith("row 1: tgt: invalid UTF-8 at byte 0")


@pytest.mark.parametrize(("bad", "stops"), [(100, False), (101, True)])
def test_share_of_faults_at_the_end(tmp_path: Path, bad: int, stops: bool) -> None:
    rows = ["a\tb"] * (1000 - bad) + ["a"] * bad
    (tmp_path / "a.tsv").write_text("\n".join(rows))
    if stops:
        with pytest.raises(DataError, match=r"100 of 999 rows .* line 999: .*\n.*max_row_fault_share"):
            read_all(tmp_path / "a.tsv", **LANGS)
    else:
        assert read_all(tmp_path / "a.tsv", **LANGS).rejects.num_rows == 100


def test_share_of_faults_is_first_judged_at_a_hundred_rows(tmp_path: Path) -> None:
    early = ["a"] * 20 + ["a\tb"] * 980
    (tmp_path / "a.tsv").write_text("\n".join(["x\ty", *early]))
    assert read_all(tmp_path / "a.tsv", **LANGS).rejects.num_rows == 20
    (tmp_path / "a.tsv").write_text("x\ty\n" + "a\n" * 5000)
    with pytest.raises(DataError, match="99 of 100 rows"):
        read_all(tmp_path / "a.tsv", **LANGS)


def test_moses_sides_of_unequal_length(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("one\ntwo\nthree\n")
    (tmp_path / "a.de").write_text("eins\n")
    with pytest.raises(DataError, match=r"a\.en has 3 lines and .*a\.de has 1"):
        read_all(tmp_path / "a.en", target_path=str(tmp_path / "a.de"), **LANGS)


def test_missing_column_lists_those_that_exist_and_the_nearest(tmp_path: Path) -> None:
    pq.write_table(pa.table({"source_txt": ["a"], "tgt": ["b"]}), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text('{"source_txt": "a", "tgt": "b"}\n' * 200)
    (tmp_path / "a.tsv").write_text("source_txt\ttgt\na\tb\n")
    for name in ("a.parquet", "a.jsonl", "a.tsv"):
        with pytest.raises(
            DataError, match=rf"{name}: no column 'source_text'; it has source_txt, tgt"
        ) as caught:
            read_all(tmp_path / name, columns={"src": "source_text"}, max_row_fault_share=1, **LANGS)
        assert "--columns src=source_txt" in caught.value.remedy
    pq.write_table(pa.table({"source_txt": [], "tgt": []}), tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no column 'src'"):
        read_all(tmp_path / "none.parquet", **LANGS)


def test_language_said_nowhere_or_unknown_in_a_setting(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("a\tb\n")
    with pytest.raises(
        DataError, match=r"'tgt_lang' nor a setting says which language(.|\n)*set corpora\.tgt_lang"
    ):
        read_all(tmp_path / "a.tsv", src_lang="en")
    with pytest.raises(LanguageError, match=r"corpora\.src_lang: 'english' is not(.|\n)*did you mean eng"):
        read_all(tmp_path / "a.tsv", src_lang="english", tgt_lang="de")


@pytest.mark.parametrize("name", ["no.tsv", "no/a.parquet", "a.tsv/b.tsv", "*.jsonl"])
def test_missing_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tsv").write_text("a\tb\n")
    with pytest.raises(DataError, match=r"(no such file|no file matches)(.|\n)*check the"):
        read_all(tmp_path / name, **LANGS)


def test_missing_target_side(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("one\n")
    with pytest.raises(DataError, match=r"a\.de: no such file"):
        read_all(tmp_path / "a.en", target_path=str(tmp_path / "a.de"), **LANGS)
    with pytest.raises(ConfigError, match="target_path"):
        read_all(tmp_path / "a.en", format="moses", **LANGS)
    (tmp_path / "b.en").write_text("one\n")
    with pytest.raises(ConfigError, match=r"2 files for one corpora\.target_path"):
        read_all(tmp_path / "*.en", target_path=str(tmp_path / "a.en"), **LANGS)


def test_cut_off_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"src": ["a"] * 1000, "tgt": ["b"] * 1000}), tmp_path / "whole")
    lines = b"".join(b"%d\t%d\n" % (i, i * i) for i in range(5000))
    packed = {
        "a.parquet": (tmp_path / "whole").read_bytes(),
        "a.tsv.gz": gzip.compress(lines),
        "a.tsv.xz": __import__("lzma").compress(lines),
        "a.tsv.zst": zstandard.ZstdCompressor().compress(lines),
    }
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(DataError, match=rf"{name}: .*(not readable as Parquet|damaged or cut off)"):
            read_all(tmp_path / name, **LANGS)
    for name in ("b.parquet", "b.tsv.gz", "b.tsv.xz", "b.tsv.zst"):
        (tmp_path / name).write_bytes(b"neither of these")
        with pytest.raises(DataError, match=name):
            read_all(tmp_path / name, **LANGS)


def test_damage_inside_a_parquet_file(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"src": [str(i) for i in range(5000)], "tgt": ["b"] * 5000}), tmp_path / "a.parquet"
    )
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[4:2000] = b"\xff" * 1996
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.parquet: not readable as Parquet"):
        read_all(tmp_path / "a.parquet", **LANGS)


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl", "a.tsv.gz", "a.parquet", "a.po"])
def test_empty_corpora(tmp_path: Path, name: str) -> None:
    if name == "a.parquet":
        pq.write_table(
            pa.table({"src": pa.array([], pa.string()), "tgt": pa.array([], pa.string())}), tmp_path / name
        )
    else:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"no rows\n  remedy: the corpus is empty"):
        read_all(tmp_path / name, **LANGS)


def test_folder_without_anything_readable(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(DataError, match="no file of a known format"):
        read_all(tmp_path, **LANGS)
    with pytest.raises(ConfigError, match=r"cannot be told from '\.png'"):
        read_all(tmp_path / "picture.png", **LANGS)
    with pytest.raises(DataError, match="not a saved dataset"):
        read_all(tmp_path, format="hf", **LANGS)


def test_pairs_in_one_language(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"src": "a", "tgt": "b", "src_lang": "en", "tgt_lang": code} for code in ("en_GB", "de", "eng")]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = read_all(path, max_row_fault_share=0)
    assert found.kept["tgt_lang"].to_pylist() == ["deu"]
    assert found.rejects["reason"].to_pylist() == ["one_language", "one_language"]
    assert found.rejects["detail"][0].as_py() == f"{path}, line 1: both sides are eng"
    with pytest.raises(
        DataError, match=r"none of its 3 rows can be used, the last is line 3: both sides are eng"
    ):
        read_all(path, src_lang="en", tgt_lang="eng")
    assert read_all(path, src_lang="und", tgt_lang="und").kept.num_rows == 3


def test_sentences_are_not_taken_from_markup(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>x</p>\n")
    with pytest.raises(ConfigError, match=r"sentences corpus cannot be told from '\.html'"):
        read_all(tmp_path / "page.html", kind="sentences", src_lang="en")


def test_unknown_kind_of_uri() -> None:
    with pytest.raises(DataError, match="nosuch://a"):
        read_all("nosuch://a/b.tsv", **LANGS)


def test_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DependencyError, match=r"pip install 'xalign_dist\[hf\]'"):
        read_all(tmp_path, format="hf", **LANGS)

    def refuse(uri: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(DependencyError, match=r"s3://bucket/a\.tsv: Install s3fs"):
        read_all("s3://bucket/a.tsv", **LANGS)
