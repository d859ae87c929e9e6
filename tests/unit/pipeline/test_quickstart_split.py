from __future__ import annotations

from collections import Counter

from xalign_dist.pipeline.quickstart_catalogs import Message, text_group
from xalign_dist.pipeline.quickstart_split import families, one_per_family, split_families


def _message(src: str, lang: str, tgt: str) -> Message:
    return Message(text_group(src), lang, src, tgt)


def test_near_copies_and_shared_translations_are_one_family() -> None:
    family_of = families(
        [
            _message("Please correct the error below.", "deu", "Fehler korrigieren"),
            _message("Please correct the errors below.", "deu", "Alle Fehler korrigieren"),
            _message("Log in", "deu", "Anmelden"),
            _message("Sign up for it", "deu", "anmelden!"),
            _message("Nothing in common", "deu", "Gar nichts"),
        ]
    )
    sizes = sorted(Counter(family_of.values()).values())
    assert sizes == [1, 2, 2]
    assert family_of["log in"] == family_of["sign up for it"]


def test_split_fills_the_shares_and_keeps_families_whole() -> None:
    words = [f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(400)]
    messages = [_message(f"{w} {w[::-1]}", "deu", f"t {w}") for w in words]
    family_of = {m.group: messages[i // 2 * 2].group for i, m in enumerate(messages)}
    parts = split_families(messages, family_of, 0.25, 0.1, seed=3)
    assert set(parts) == {m.group for m in messages}
    count = Counter(parts.values())
    assert abs(count["test"] - 100) <= 2
    assert abs(count["dev"] - 40) <= 2
    assert all(parts[group] == parts[family] for group, family in family_of.items())
    assert parts == split_families(messages[::-1], family_of, 0.25, 0.1, seed=3)
    assert parts != split_families(messages, family_of, 0.25, 0.1, seed=4)


def test_one_per_family_takes_the_most_translated() -> None:
    messages = [
        _message("one text", "deu", "ein Text"),
        _message("One texts", "deu", "ein Texte"),
        _message("one texts", "fra", "un textes"),
        _message("one texts", "fra", "des textes"),
    ]
    kept = one_per_family(messages, {"one text": "one text", "one texts": "one text"})
    assert [(m.group, m.lang, m.src, m.tgt) for m in kept] == [
        ("one texts", "deu", "One texts", "ein Texte"),
        ("one texts", "fra", "One texts", "un textes"),
    ]
