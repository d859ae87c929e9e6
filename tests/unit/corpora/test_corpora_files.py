"""Which files a corpus has, in which order, and what their rows' ids are."""

from pathlib import Path

from corpus_reading import read_all, texts

LANGS = {"src_lang": "en", "tgt_lang": "de"}


def test_folders_and_globs_are_read_sorted_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.tsv", "a.tsv", "c/d.tsv", ".hidden.tsv", "_work.tsv", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{name}\tx\n")
    assert [s for s, _ in texts(read_all(tmp_path, **LANGS))] == ["a.tsv", "b.tsv", "c/d.tsv"]
    assert [s for s, _ in texts(read_all(tmp_path / "[ab].tsv", **LANGS))] == ["a.tsv", "b.tsv"]
    found = read_all(f"{tmp_path}/**/*.tsv", **LANGS)
    assert "c/d.tsv" in [s for s, _ in texts(found)]


def test_a_format_given_reads_its_own_endings_or_else_everything(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("1\tx\n")
    (tmp_path / "a.jsonl").write_text('{"src": "2", "tgt": "y"}\n')
    assert texts(read_all(tmp_path, format="jsonl", **LANGS)) == [("2", "y")]
    (tmp_path / "a.tsv").rename(tmp_path / "a.data")
    (tmp_path / "a.jsonl").unlink()
    assert texts(read_all(tmp_path, format="tsv", **LANGS)) == [("1", "x")]


def test_ids_differ_between_files_of_the_same_name(tmp_path: Path) -> None:
    for lang in ("en", "de"):
        (tmp_path / lang).mkdir()
        (tmp_path / lang / "web.txt").write_text("x\ny\n")
    alone = [
        read_all(tmp_path / lang / "web.txt", kind="sentences", src_lang=lang).kept["id"].to_pylist()
        for lang in ("en", "de")
    ]
    assert alone == [["en/web.txt:0:text", "en/web.txt:1:text"], ["de/web.txt:0:text", "de/web.txt:1:text"]]
    whole = read_all(tmp_path, kind="sentences", src_lang="en").kept["id"].to_pylist()
    assert whole[0] == f"{tmp_path.name}/de/web.txt:0:text"
    glob = read_all(f"{tmp_path}/*/web.txt", kind="sentences", src_lang="en").kept["id"].to_pylist()
    assert glob == whole


def test_limit_of_rows_holds_over_all_files_and_chunks_over_each(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.tsv").write_text("".join(f"{name}{i}\tx\n" for i in range(5)))
    found = read_all(tmp_path, max_rows=7, rows_per_chunk=2, **LANGS)
    assert [s for s, _ in texts(found)] == ["a0", "a1", "a2", "a3", "a4", "b0", "b1"]


def test_source_from_setting_column_or_file(tmp_path: Path) -> None:
    (tmp_path / "news.tsv").write_text("src\ttgt\tsource\na\tb\tbbc\nc\td\t\n")
    assert read_all(tmp_path / "news.tsv", **LANGS).kept["source"].to_pylist() == ["bbc", "news"]
    named = read_all(tmp_path / "news.tsv", source="mine", **LANGS)
    assert named.kept["source"].to_pylist() == ["mine", "mine"]
