from __future__ import annotations

import sys
from pathlib import Path

import polib
import pytest

from xalign_dist.errors import DataError, DependencyError
from xalign_dist.pipeline import quickstart_catalogs as catalogs

PO = """
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

msgid "Log in now"
msgstr "Jetzt\\n anmelden"

#, fuzzy
msgid "A guessed text"
msgstr "Vielleicht dies"

msgid "Same in both"
msgstr "Same  in both."

msgid "Word"
msgstr "Wort"

msgid "%(count)d item"
msgid_plural "%(count)d items were deleted"
msgstr[0] "ein Eintrag"
msgstr[1] "%(count)d Einträge wurden gelöscht"

msgid "<b>Bold text</b> here"
msgstr "<b>Fetter Text</b> hier"

msgid "Not yet translated"
msgstr ""

#~ msgid "Gone long ago"
#~ msgstr "Längst fort"
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "pkg" / "contrib" / "locale" / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "app.po").write_text(PO, "utf-8")
    return tmp_path / "pkg"


def test_usable_messages_are_kept_and_dirt_is_left_out(package: Path) -> None:
    found = catalogs.read_messages({"deu": ("de",)}, [package])
    assert [(m.src, m.tgt) for m in found] == [
        ("Log in now", "Jetzt anmelden"),
        ("%(count)d items were deleted", "%(count)d Einträge wurden gelöscht"),
    ]
    assert [m.group for m in found] == ["log in now", "items were deleted"]


def test_compiled_catalog_gives_the_same_and_is_preferred(package: Path) -> None:
    po = next(package.rglob("app.po"))
    expected = list(catalogs.read_catalog(po))
    polib.pofile(str(po)).save_as_mofile(str(po.with_suffix(".mo")))
    assert sorted(catalogs.read_catalog(po.with_suffix(".mo"))) == sorted(expected)
    po.write_text("not a catalog at all {", "utf-8")
    assert sorted((m.src, m.tgt) for m in catalogs.read_messages({"deu": ("de",)}, [package])) == sorted(
        expected
    )


def test_first_locale_that_exists_is_read(package: Path) -> None:
    assert len(catalogs.read_messages({"deu": ("de_AT", "de")}, [package])) == 2
    assert catalogs.read_messages({"deu": ("de_AT",)}, [package]) == []


def test_damaged_catalog_is_named(package: Path) -> None:
    broken = next(package.rglob("app.po")).with_suffix(".mo")
    broken.write_bytes(b"\x00" * 40)
    with pytest.raises(DataError, match=r"app\.mo.*\n.*reinstall"):
        catalogs.read_messages({"deu": ("de",)}, [package])


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs, "PACKAGES", {"no_such_module": "No-Such"})
    with pytest.raises(DependencyError, match=r"No-Such.*\n.*pip install 'xalign_dist\[quickstart\]'"):
        catalogs.find_packages()


def test_packages_are_found_without_import() -> None:
    before = set(sys.modules)
    assert [p.name for p in catalogs.find_packages()] == list(catalogs.PACKAGES)
    assert not {"django", "allauth", "rest_framework"} & (set(sys.modules) - before)


def test_near_copies_have_one_group() -> None:
    assert catalogs.text_group("Delete “%(name)s” now?") == catalogs.text_group("delete {0} NOW")
    assert catalogs.text_group("Delete this") != catalogs.text_group("Delete that")
