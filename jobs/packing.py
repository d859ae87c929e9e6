"""What of a folder is sent with a job: code and configs, no data, no secrets, and not too much."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

from xalign_dist.errors import ConfigError

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
    """(path inside ``folder``, bytes) of every file that is sent.

    Of the ignore files only plain names and globs without a slash are looked at, so that it may
    count a file too many, never one too few.
    """
    anywhere = [*(name for name in EXCLUDES if not name.startswith("/")), *_ignored(folder)]
    top = [name[1:] for name in EXCLUDES if name.startswith("/")]
    for home, folders, files in os.walk(folder):
        names = anywhere + top if home == str(folder) else anywhere
        folders[:] = sorted(d for d in folders if not _matches(d, names))
        for name in sorted(f for f in files if not _matches(f, names)):
            path = Path(home, name)
            yield str(path.relative_to(folder)), path.lstat().st_size


def check_size(folder: Path, limit: int = LIMIT_BYTES) -> None:
    """Refuse to send too much, before anything is packed.

    Raises:
        ConfigError: more than ``limit`` bytes; names the largest files.
    """
    files = sorted(packed(folder), key=lambda item: -item[1])
    total = sum(size for _, size in files)
    if total > limit:
        largest = ", ".join(f"{path} ({_mib(size)})" for path, size in files[:3])
        raise ConfigError(
            f"{folder}: {_mib(total)} would be sent with the job, at most {_mib(limit)} may be: {largest}",
            "move data out of the folder, or name it in .gitignore or .rayignore",
        )


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _ignored(folder: Path) -> list[str]:
    found = []
    for name in (".gitignore", ".rayignore"):
        path = folder / name
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        found += [line.strip().rstrip("/") for line in lines]
    return [p for p in found if p and "/" not in p and not p.startswith(("#", "!"))]


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
