"""What is sent with a job: the working directory without data and secrets, not too much, and our code."""

from __future__ import annotations

import fnmatch
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xalign_dist.errors import ConfigError

CODE = Path(__file__).resolve().parents[1]
"""Where our packages lie: a clone, or the site-packages of an installation."""
PACKAGES = ("xalign_dist", "jobs", "tuning")

# Ray keeps the package in the head's memory and refuses it above 512 MiB, after packing it.
LIMIT_BYTES = 200 * 2**20
_DATA = ["/runs", "/corpora", "*.parquet", "*.safetensors"]
_SECRETS = [
    ".env",
    "*.env",
    "*.pem",
    "*.key",
    "*.p12",
    "id_rsa*",
    "id_ed25519*",
    "auth_token",
    "credentials*",
    ".netrc",
    ".aws",
    ".ssh",
    ".kube",
    ".ray",
]
EXCLUDES = [".git", ".venv", ".ci", "/tests", "/benchmarks", "/docs", *_DATA, *_SECRETS]
"""As in .gitignore: names at any depth, with a slash before them only at the top, where the data lies
that has the name of a package of ours. Ray leaves out what .gitignore and .rayignore name as well."""


def packed(folder: Path) -> Iterator[tuple[str, int]]:
    """(path inside ``folder``, bytes) of every file that is sent. Links that lead out of it are not.

    Of the ignore files only plain names and globs without a slash are looked at, so that it may
    count a file too many, never one too few.
    """
    anywhere = [*(name for name in EXCLUDES if not name.startswith("/")), *_ignored(folder)]
    top = [name[1:] for name in EXCLUDES if name.startswith("/")]
    inside = folder.resolve()
    for home, folders, files in os.walk(folder):
        names = anywhere + top if home == str(folder) else anywhere
        folders[:] = sorted(d for d in folders if not _matches(d, names))
        for name in sorted(f for f in files if not _matches(f, names)):
            path = Path(home, name)
            if path.is_file() and path.resolve().is_relative_to(inside):
                yield str(path.relative_to(folder)), path.stat().st_size


def check_size(folder: Path, limit: int = LIMIT_BYTES) -> None:
    """Refuse to send too much, before anything is packed.

    Raises:
        ConfigError: more than ``limit`` bytes; names the largest files. Or a whole home folder.
    """
    if folder.resolve() in {Path.home().resolve(), Path(folder.anchor or "/")}:
        raise ConfigError(
            f"{folder} would be sent with the job, and it is no project's folder",
            "change into the folder that holds your configs",
        )
    files = sorted(packed(folder), key=lambda item: -item[1])
    total = sum(size for _, size in files)
    if total > limit:
        largest = ", ".join(f"{path} ({_mib(size)})" for path, size in files[:3])
        raise ConfigError(
            f"{folder}: {_mib(total)} would be sent with the job, at most {_mib(limit)} may be: {largest}",
            "move data out of the folder, or name it in .gitignore or .rayignore",
        )


def unsent(folder: Path, path: str) -> str | None:
    """What a job would not find of ``path`` (file, folder or glob inside ``folder``); None: it finds all.

    That is the first file that is there and is not sent, or ``path`` itself where there is none.
    """
    want, there = os.path.normpath(path), folder / path
    if there.is_dir():
        files = [p for p in there.rglob("*") if not _hidden(p.relative_to(there))]
    else:
        files = [there] if there.exists() else list(folder.glob(want))
    names = sorted(os.path.relpath(p, folder) for p in files if p.is_file())
    going = {name for name, _ in packed(folder)}
    return next((name for name in names if name not in going), None) if names else path


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A copy of what is sent of ``folder``, and our packages in it, unless it has them; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="xalign-submit-") as home:
        copy = Path(home)
        for name, _ in packed(folder):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, copy / name)
        for package in PACKAGES:
            if not (copy / package / "__init__.py").is_file():
                leave = shutil.ignore_patterns("__pycache__")
                shutil.copytree(CODE / package, copy / package, dirs_exist_ok=True, ignore=leave)
        yield copy


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _hidden(inside: Path) -> bool:
    """Readers of corpora pass over it: other programs' bookkeeping."""
    return any(part.startswith((".", "_")) for part in inside.parts)


def _ignored(folder: Path) -> list[str]:
    found = []
    for name in (".gitignore", ".rayignore"):
        path = folder / name
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        found += [line.strip().rstrip("/") for line in lines]
    return [p for p in found if p and "/" not in p and not p.startswith(("#", "!"))]


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
