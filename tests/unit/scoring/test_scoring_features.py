"""Cheap features: what encoders overlook, and what must not be mistaken for it."""

from __future__ import annotations

import numpy as np
import pytest

from xalign_dist.scoring.features import is_copy, numbers, odd_lengths, pair_features


def test_each_feature_fires_on_its_own_fault_only() -> None:
    src = ["Delete 3 files", "Open the file", "Save as", "The value is %(value)s"] * 10
    tgt = ["Удалить 3 файла", "Открыть файл", "Сохранить как", "Значение: %(value)s"] * 10
    src += ["Copied text", "Version 12", "Close the window", "Quit"]
    tgt += [
        "copied  TEXT",
        "Версия 21",
        "Fenster schließen",
        "Выйти из программы и больше ничего не делать" * 4,
    ]
    features = pair_features(src, tgt, "rus")
    assert np.flatnonzero(features.copy_N).tolist() == [40]
    assert np.flatnonzero(features.digits_N).tolist() == [41]
    assert np.flatnonzero(features.script_N).tolist() == [40, 42]
    assert np.flatnonzero(features.length_N).tolist() == [43]
    factor = features.hard_factor() * features.soft_factor()
    assert not features.language_N.any()
    assert factor[40] == 0
    assert (factor[:40] == 1).all()
    assert ((factor[41:] > 0) & (factor[41:] < 1)).all()


def test_texts_without_letters_are_their_own_translation() -> None:
    assert not is_copy("12 + 3", "12 + 3")
    assert is_copy("Django admin", "django  ADMIN")


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("1,000 files", "1.000 Dateien", True),
        ("0 files", "00 Dateien", True),
        ("1\u00a0000 files", "1000 Dateien", True),
        ("page 12", "صفحة ١٢", True),
        ("page 12", "page 21", False),
        ("3 of 3", "3 von 4", False),
        ("two files", "zwei Dateien", True),
    ],
)
def test_numbers_across_scripts_and_separators(left: str, right: str, equal: bool) -> None:
    assert (numbers(left) == numbers(right)) is equal


def test_a_corpus_in_the_other_script_of_its_language_is_not_odd() -> None:
    latin = ["Obriši datoteku", "Otvori datoteku", "Zatvori prozor"]
    assert not pair_features(["Delete", "Open", "Close"], latin, "srp").script_N.any()
    mixed = [*latin[:1], "Отвори датотеку", "Затвори прозор"]
    assert pair_features(["Delete", "Open", "Close"], mixed, "srp").script_N.tolist() == [True, False, False]


def test_lengths_of_languages_that_write_shorter_are_not_odd() -> None:
    src = ["a sentence of some length, number " + "x" * (i % 7) for i in range(50)]
    assert not odd_lengths(src, [s[: len(s) // 3] for s in src]).any()
    assert odd_lengths([], []).shape == (0,)


def test_another_language_is_found_and_a_corpus_of_one_dialect_is_not_condemned() -> None:
    german = "Der Ausschuss hat gestern über den neuen Haushalt beraten und abgestimmt."
    french = "La commission a débattu hier du nouveau budget et a ensuite procédé au vote."
    english = "The committee discussed the new budget yesterday and then voted on it."
    mixed = pair_features([english] * 5, [german] * 4 + [french], "deu", "eng")
    assert mixed.language_N.tolist() == [False] * 4 + [True]
    assert mixed.hard_factor()[4] < 0.1
    assert not pair_features([english] * 5, [french] * 5, "deu", "eng").language_N.any()
    assert pair_features([english] * 4 + [french], [german] * 5, "deu", "eng").language_N.tolist()[4]
    assert not pair_features([english] * 5, [german] * 4 + [french], "und").language_N.any()


def test_most_of_a_corpus_in_many_wrong_scripts_is_still_wrong() -> None:
    wrong = ["Открыть файл сейчас", "فتح الملف الآن", "ফাইলটি এখন খুলুন", "打开这个文件吧"]
    found = pair_features(["Open the file now"] * 6, [*wrong, "Öffne sie jetzt", "Datei"], "deu")
    assert found.script_N.tolist() == [True] * 4 + [False] * 2
