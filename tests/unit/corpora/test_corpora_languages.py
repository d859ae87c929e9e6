"""Language codes as files write them, and the scripts that languages are written in."""

import pytest

from xalign_dist.corpora.languages import expected_scripts, language_name, normalize_language
from xalign_dist.errors import LanguageError

CODES = {
    "de": "deu", "DE": "deu", "deu": "deu", "ger": "deu", "deu_Latn": "deu", "de-AT": "deu",
    "zh": "zho", "cmn": "zho", "zho-CN": "zho", "zho_Hans": "zho", "zh-Hant-TW": "zho",
    "zh-yue": "yue", "yue_Hant": "yue", "zh_min_nan": "nan",
    "pt_BR": "por", "sr@latin": "srp", "sr-Cyrl": "srp", "ca@valencia": "cat", "be-tarask": "bel",
    "en_US.UTF-8": "eng", " en ": "eng", "arb_Arab": "ara", "arz": "arz", "swh": "swa", "sw": "swa",
    "khk_Cyrl": "mon", "pes_Arab": "fas", "prs_Arab": "fas", "zsm_Latn": "msa", "ms": "msa",
    "als_Latn": "sqi", "kmr_Latn": "kur", "ckb": "ckb", "lvs": "lav", "plt": "mlg", "ory": "ori",
    "no": "nob", "nb": "nob", "nn": "nno", "iw": "heb", "tgl_Latn": "fil", "und": "und",
}  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), CODES.items())
def test_codes_meet_under_one_name(code: str, expected: str) -> None:
    assert normalize_language(code) == expected
    assert normalize_language(expected) == expected


@pytest.mark.parametrize("code", ["", "e", "xx", "qaa", "zxx", "mul", "de en", "12", "e\n"])
def test_what_names_no_language_is_refused_with_a_remedy(code: str) -> None:
    with pytest.raises(LanguageError) as caught:
        normalize_language(code)
    assert repr(code) in caught.value.problem
    assert "deu" in caught.value.remedy


def test_a_language_spelt_out_gets_its_code_suggested() -> None:
    with pytest.raises(LanguageError, match=r"did you mean deu\?"):
        normalize_language("german")


def test_names() -> None:
    assert language_name("deu") == "German"
    assert language_name("gle") == "Irish"
    assert language_name("und") == "unknown"
    assert language_name("qaa") == "qaa"


@pytest.mark.parametrize(
    ("code", "scripts"),
    [
        ("eng", {"Latn"}), ("rus", {"Cyrl"}), ("amh", {"Ethi"}), ("tel", {"Telu"}), ("zho", {"Hani", "Bopo"}),
        ("jpn", {"Hani", "Hira", "Kana"}), ("srp", {"Latn", "Cyrl"}), ("ckb", {"Arab"}), ("yor", {"Latn"}),
        ("yue", {"Hani"}), ("div", {"Thaa"}),
    ],
)  # fmt: skip
def test_scripts(code: str, scripts: set[str]) -> None:
    assert expected_scripts(code) == scripts


@pytest.mark.parametrize("code", ["und", "aaa"])
def test_scripts_that_nobody_knows_are_not_guessed(code: str) -> None:
    assert expected_scripts(code) == frozenset()
