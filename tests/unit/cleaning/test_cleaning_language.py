"""Is a text in the language that it claims?"""

import pytest
from cleaning_rows import pairs, sentences, verdicts

from xalign_dist.cleaning import clean_rows
from xalign_dist.cleaning.language import foreign_script, other_language, script_of
from xalign_dist.config import CleaningConfig

ENGLISH = "The children walked slowly along the river until the evening came."
GERMAN = "Die Kinder gingen langsam am Fluss entlang, bis der Abend hereinbrach."
RUSSIAN = "Министерство сообщило, что новый закон вступит в силу с первого января следующего года."
DANISH = "Børnene gik hjem, fordi det var blevet aften, og de var meget sultne efter den lange tur."
WOLOF = "Xale yi dañu doon dox ndànk ci wetu dex gi ba ngoon jot."


def judged(text: str, lang: str, **settings) -> bool:
    """Whether the language filter keeps a sentence."""
    cfg = CleaningConfig(filters=["language"], **settings)
    return clean_rows(sentences(text, lang=lang), cfg).kept.num_rows == 1


@pytest.mark.parametrize(
    ("text", "lang", "fits"),
    [
        ("OK", "rus", False),
        ("Файл OK", "rus", True),
        ("DateDiff 函数", "zho", True),
        ("Please close the window 窗 now", "zho", False),
        ("ファイルを開く", "jpn", True),
        ("파일 열기", "kor", True),
        ("ᠮᠣᠩᠭᠣᠯ", "mon", True),
        ("Ћирилица", "srp", True),
        ("latinica", "srp", True),
        ("السلام", "eng", False),
        ("5 %", "rus", True),
        ("º", "rus", True),
        ("ꯃꯩꯇꯩ", "rus", True),
        ("ⴰⵣⵓⵍ Windows", "zgh", True),
        ("ߒߞߏ", "fra", False),
        ("whatever ꦗꦮ", "und", True),
        ("anything", "aaa", True),
    ],
)
def test_scripts_of_short_texts(text: str, lang: str, fits: bool) -> None:
    assert (foreign_script(text, lang) is None) == fits
    assert judged(text, lang) == fits


def test_script_of_letters() -> None:
    assert [script_of(c) for c in "aЖ漢あ5 "] == ["Latn", "Cyrl", "Hani", "Hira", None, None]


@pytest.mark.parametrize(
    ("text", "lang", "fits"),
    [
        (ENGLISH, "eng", True),
        (GERMAN, "deu", True),
        (RUSSIAN, "rus", True),
        (ENGLISH, "deu", False),
        (GERMAN, "eng", False),
        (ENGLISH, "gle", False),
        (RUSSIAN, "mon", False),
        (DANISH, "nob", True),
        (DANISH, "nno", True),
        (DANISH, "deu", False),
        (WOLOF, "wol", True),
        (ENGLISH, "wol", True),
        (ENGLISH, "und", True),
    ],
)
def test_identifier_refuses_other_languages_but_not_relatives_or_strangers(
    text: str, lang: str, fits: bool
) -> None:
    assert judged(text, lang) == fits


def test_identifier_waits_for_length_and_certainty() -> None:
    assert len(ENGLISH) == 66
    assert judged(ENGLISH, "deu", language_min_chars=67)
    assert not judged(ENGLISH, "deu", language_min_chars=66)
    assert other_language(ENGLISH, "deu", 0.9) is not None
    assert other_language(ENGLISH, "deu", 1.1) is None


def test_modes() -> None:
    assert judged(ENGLISH, "deu", language_check="script")
    assert not judged(ENGLISH, "rus", language_check="script")
    assert judged(ENGLISH, "rus", language_check="off")


def test_both_sides_are_judged_and_named() -> None:
    table = pairs((ENGLISH, GERMAN), (GERMAN, GERMAN + " Ja."), (ENGLISH, ENGLISH + " Yes."))
    chunk = clean_rows(table, CleaningConfig(filters=["language"]))
    assert verdicts(chunk.rejects) == {"s1": "language", "s2": "language"}
    first, second = chunk.rejects["detail"].to_pylist()
    assert first.startswith("src: looks like deu")
    assert second.startswith("tgt: looks like eng")
    assert second.endswith("not deu")
