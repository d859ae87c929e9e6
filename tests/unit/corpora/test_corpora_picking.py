"""What is meant when a name or a setting could mean two things."""

from pathlib import Path

import pytest
from corpus_reading import read_all, texts

TMX = """<tmx><body><tu><tuv xml:lang="en"><seg>one</seg></tuv><tuv xml:lang="de"><seg>eins</seg></tuv>
<tuv xml:lang="fr"><seg>un</seg></tuv></tu></body></tmx>"""


@pytest.mark.parametrize(
    ("settings", "pair"),
    [
        ({"src_lang": "de"}, ("eins", "one")),
        ({"tgt_lang": "en"}, ("eins", "one")),
        ({"tgt_lang": "fr"}, ("one", "un")),
        ({}, ("one", "eins")),
    ],
)
def test_one_language_of_a_tmx_leaves_the_other_side_another_variant(
    tmp_path: Path, settings: dict[str, str], pair: tuple[str, str]
) -> None:
    (tmp_path / "a.tmx").write_text(TMX)
    assert texts(read_all(tmp_path / "a.tmx", **settings)) == [pair]


def test_a_file_with_brackets_in_its_name_is_no_glob(tmp_path: Path) -> None:
    (tmp_path / "d[1].tsv").write_text("one\teins\n")
    (tmp_path / "d1.tsv").write_text("two\tzwei\n")
    langs = {"src_lang": "en", "tgt_lang": "de"}
    assert texts(read_all(tmp_path / "d[1].tsv", **langs)) == [("one", "eins")]
    assert texts(read_all(tmp_path / "d[12].tsv", **langs)) == [("two", "zwei")]
