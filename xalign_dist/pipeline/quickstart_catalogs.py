"""Real translated messages out of installed packages' gettext catalogs.

The packages are found but never imported: importing Django would configure nothing we need
and costs a second. Only compiled catalogs (``.mo``) are read where both forms are shipped,
because compilation already left out fuzzy entries.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polib

from xalign_dist.errors import DataError, DependencyError

PACKAGES: Mapping[str, str] = {
    "django": "Django",
    "allauth": "django-allauth",
    "rest_framework": "djangorestframework",
}
"""Import name -> PyPI name; all three are under MIT or BSD licences."""

MIN_WORDS = 2
MAX_CHARS = 300

_PLACEHOLDER = re.compile(r"%\(\w+\)[sdif]|%[sdif]|\{\w*\}")
_TAG = re.compile(r"</?[A-Za-z][^>]*>")
_WORD = re.compile(r"[^\W\d_]{2,}")
_NOT_LETTER = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """One translated message.

    Attributes:
        group: the English text without case, placeholders and punctuation; equal for
            copies of one message in several packages and languages.
        lang: ISO 639-3 of ``tgt``.
        src: English text.
        tgt: its translation.
    """

    group: str
    lang: str
    src: str
    tgt: str


def text_group(text: str) -> str:
    """``text`` without case, placeholders, digits and punctuation: near-copies become equal."""
    return _NOT_LETTER.sub(" ", _PLACEHOLDER.sub(" ", text).casefold()).strip()


def count_words(text: str) -> int:
    """Words of two letters or more, placeholders not counted."""
    return len(_WORD.findall(_PLACEHOLDER.sub(" ", text)))


def read_messages(locales: Mapping[str, Sequence[str]], roots: Sequence[Path] | None = None) -> list[Message]:
    """All usable messages of the quickstart's packages.

    Args:
        locales: ISO 639-3 code -> names of catalog folders, best first; in each package
            the first one that exists is read.
        roots: package folders; None: those of :data:`PACKAGES`.

    Returns:
        Distinct messages in a fixed order: by language, package, file, place in the file.

    Raises:
        DependencyError: a package is not installed.
        DataError: a catalog cannot be parsed.
    """
    folders = find_packages() if roots is None else list(roots)
    found: dict[Message, None] = {}
    for lang, names in locales.items():
        for folder in folders:
            for path in _catalogs(folder, names):
                for src, tgt in read_catalog(path):
                    found.setdefault(Message(text_group(src), lang, src, tgt))
    return list(found)


def find_packages() -> list[Path]:
    """Folders of the packages that ship the catalogs, found without importing them."""
    folders = []
    for module, name in PACKAGES.items():
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise missing_package(name)
        folders.append(Path(spec.origin).parent)
    return folders


def missing_package(name: str) -> DependencyError:
    """The error for an optional package of the quickstart."""
    return DependencyError(
        f"the package {name}, whose texts the quickstart uses, is not installed",
        "pip install 'xalign_dist[quickstart]'",
    )


def read_catalog(path: Path) -> Iterator[tuple[str, str]]:
    """Usable (English, translation) texts of one catalog, white space collapsed.

    Left out: fuzzy and obsolete entries, untranslated copies, fewer than :data:`MIN_WORDS`
    English words, more than :data:`MAX_CHARS` characters, HTML. Of a plural entry the
    plural is taken with its last form. Everything else stays as the translators left it.
    """
    try:
        entries = polib.mofile(str(path)) if path.suffix == ".mo" else polib.pofile(str(path))
    except (OSError, UnicodeDecodeError, ValueError) as err:
        raise DataError(f"{path}: not a readable gettext catalog ({err})", "reinstall the package") from None
    for entry in entries:
        if isinstance(entry, polib.POEntry) and (entry.obsolete or entry.fuzzy):
            continue
        src, tgt = entry.msgid, entry.msgstr
        if entry.msgid_plural:
            forms = entry.msgstr_plural
            src, tgt = entry.msgid_plural, forms[max(forms)] if forms else ""
        src, tgt = " ".join(src.split()), " ".join(tgt.split())
        if _usable(src, tgt):
            yield src, tgt


def _usable(src: str, tgt: str) -> bool:
    if len(src) > MAX_CHARS or len(tgt) > MAX_CHARS or _TAG.search(src) or _TAG.search(tgt):
        return False
    if count_words(src) < MIN_WORDS:
        return False
    return bool(text_group(tgt)) and text_group(src) != text_group(tgt)


def _catalogs(package: Path, names: Sequence[str]) -> list[Path]:
    for name in names:
        folders = sorted(package.glob(f"**/locale/{name}/LC_MESSAGES"))
        if folders:
            return [path for folder in folders for path in _one_form_each(folder)]
    return []


def _one_form_each(folder: Path) -> list[Path]:
    stems = sorted({p.stem for p in folder.iterdir() if p.suffix in {".mo", ".po"}})
    both = ((folder / f"{stem}.mo", folder / f"{stem}.po") for stem in stems)
    return [mo if mo.exists() else po for mo, po in both]
