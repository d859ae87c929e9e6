"""Catalogs of messages (gettext) and translation memories (TMX)."""

import gzip
import tracemalloc
from pathlib import Path

import polib
import pytest
from corpus_reading import read_all, texts

from xalign_dist.config import CorpusConfig
from xalign_dist.corpora.read import read_corpus
from xalign_dist.errors import DataError

PO = r"""
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Language: de_AT\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

msgid "Open the file"
msgstr "Öffne die Datei"

msgctxt "menu"
msgid "Close"
msgstr "Schließen"

#. Default: "Save all
#. changes"
msgid "label_save"
msgstr "Alles speichern"

msgid "not translated"
msgstr ""

#, fuzzy
msgid "unsure"
msgstr "geraten"

msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d Datei"
msgstr[1] "%d Dateien"

#~ msgid "gone"
#~ msgstr "weg"
"""
KEPT = [
    ("Open the file", "Öffne die Datei"),
    ("Close", "Schließen"),
    ("Save all\nchanges", "Alles speichern"),
    ("%d file", "%d Datei"),
    ("%d files", "%d Dateien"),
]

TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en"/><body>
<tu><tuv xml:lang="en-US">
    <seg>Press <bpt i="1">&lt;b&gt;</bpt>OK<ept i="1">&lt;/b&gt;</ept> &amp; <hi>go</hi></seg></tuv>
    <tuv xml:lang="de"><seg>Drücken</seg></tuv><tuv xml:lang="fr"><seg>Appuyez</seg></tuv></tu>
<tu><tuv xml:lang="fr"><seg>un</seg></tuv><tuv lang="en"><seg>one</seg></tuv></tu>
</body></tmx>"""


def test_po_messages_contexts_defaults_and_plurals(tmp_path: Path) -> None:
    (tmp_path / "app.po").write_text(PO, "utf-8")
    found = read_all(tmp_path / "app.po", max_row_fault_share=0)
    assert texts(found) == KEPT
    assert set(found.kept["src_lang"].to_pylist()) == {"eng"}
    assert set(found.kept["tgt_lang"].to_pylist()) == {"deu"}
    assert found.rejects.select(["src", "reason"]).to_pylist() == [
        {"src": "unsure", "reason": "fuzzy"},
        {"src": "gone", "reason": "obsolete"},
    ]
    assert str(tmp_path / "app.po") in found.rejects["detail"][0].as_py()


def test_mo_and_compressed_po_say_the_same(tmp_path: Path) -> None:
    catalog = polib.pofile(PO)
    catalog.save_as_mofile(str(tmp_path / "app.mo"))
    (tmp_path / "app.po.gz").write_bytes(gzip.compress(PO.encode()))
    compiled = [
        p if p[0] != "Save all\nchanges" else ("label_save", p[1]) for p in KEPT
    ]  # no comments in .mo
    assert sorted(texts(read_all(tmp_path / "app.mo"))) == sorted(compiled)
    assert texts(read_all(tmp_path / "app.po.gz")) == KEPT


def test_folder_of_catalogs_takes_languages_from_folders_and_reads_each_once(tmp_path: Path) -> None:
    for lang, text in (("ga", "Oscail"), ("cy", "Agor")):
        folder = tmp_path / lang / "LC_MESSAGES"
        folder.mkdir(parents=True)
        (folder / "django.po").write_text(f'msgid "Open"\nmsgstr "{text}"\n', "utf-8")
        polib.pofile(str(folder / "django.po")).save_as_mofile(str(folder / "django.mo"))
    found = read_all(tmp_path)
    assert found.kept["tgt_lang"].to_pylist() == ["cym", "gle"]
    assert len(set(found.kept["src_id"].to_pylist())) == 2
    assert texts(read_all(tmp_path, kind="sentences")) == [("Agor",), ("Oscail",)]


def test_catalog_in_its_own_charset(tmp_path: Path) -> None:
    (tmp_path / "a.po").write_bytes(PO.replace("UTF-8", "ISO-8859-1").encode("latin-1"))
    assert texts(read_all(tmp_path / "a.po")) == KEPT


def test_damaged_catalogs_are_refused(tmp_path: Path) -> None:
    polib.pofile(PO).save_as_mofile(str(tmp_path / "app.mo"))
    data = (tmp_path / "app.mo").read_bytes()
    (tmp_path / "whole.po").write_text(PO, "utf-8")
    for name, content in (
        ("cut.mo", data[:-30]),
        ("short.mo", data[:5]),
        ("not.mo", b"hello"),
        ("bad.po", b'msgid "x\nmsgstr 3\n'),
        ("charset.po", b'msgid ""\nmsgstr "Content-Type: text/plain; charset=nonsense\\n"\n'),
        ("path.po", str(tmp_path / "whole.po").encode()),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_all(tmp_path / name, tgt_lang="de")


def test_tmx_picks_languages_and_leaves_markup_out(tmp_path: Path) -> None:
    (tmp_path / "a.tmx").write_text(TMX, "utf-8")
    first = read_all(tmp_path / "a.tmx")
    assert texts(first) == [("Press OK & go", "Drücken"), ("un", "one")]
    assert first.kept["tgt_lang"].to_pylist() == ["deu", "eng"]
    french = read_all(tmp_path / "a.tmx", src_lang="eng", tgt_lang="fr")
    assert texts(french) == [("Press OK & go", "Appuyez"), ("one", "un")]
    german = read_all(tmp_path / "a.tmx", src_lang="en", tgt_lang="de", max_row_fault_share=0.5)
    assert "unit 2: it has not both languages, but: fr, en" in german.rejects["detail"][0].as_py()
    assert texts(read_all(tmp_path / "a.tmx", kind="sentences", src_lang="fr")) == [("Appuyez",), ("un",)]


@pytest.mark.parametrize(
    "content",
    [
        TMX[:300],
        "not xml",
        '<!DOCTYPE tmx [<!ENTITY a "aaa">]><tmx><body><tu><tuv><seg>&a;</seg></tuv></tu></body></tmx>',
        '<!DOCTYPE tmx [<!ENTITY a SYSTEM "file:///etc/passwd">]><tmx><body>&a;</body></tmx>',
    ],
)
def test_tmx_cut_off_or_with_entities_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.tmx").write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"a\.tmx: not readable as TMX"):
        read_all(tmp_path / "a.tmx")


def test_tmx_memory_does_not_grow_with_its_length(tmp_path: Path) -> None:
    unit = '<tu><tuv lang="en"><seg>one</seg></tuv><tuv lang="de"><seg>eins</seg></tuv></tu>\n'

    def peak(units: int) -> int:
        (tmp_path / "a.tmx").write_text(f"<tmx><body>{unit * units}</body></tmx>")
        tracemalloc.start()
        for _ in read_corpus(CorpusConfig(path=str(tmp_path / "a.tmx")), rows_per_chunk=100):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)  # what is imported and cached once
    # Long enough for the units to outweigh what is constant: emptied ones that stay would triple it.
    assert peak(20_000) < 1.5 * peak(5000)
