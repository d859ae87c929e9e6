"""The shape of the source: sizes, who may import what, and nothing of anybody's machine in any file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
CODE = ("xalign_dist", "jobs", "tuning", "benchmarks", "tests")
MAX_LINES = 300

CLUSTER_LIBRARIES = {"ray", "deepspeed"}
CLUSTER_FOLDERS = ("xalign_dist/runtime/", "jobs/", "tuning/", "tests/", "benchmarks/")
FAISS_FILE = "xalign_dist/mining/index.py"

# Written apart, so that this file passes its own test.
REGISTRIES = tuple(
    name.replace(" ", ".")
    for name in (
        "pypi org", "pypi python org", "pythonhosted org", "download pytorch org", "npmjs org", "npmjs com",
        "proxy golang org", "crates io", "rubygems org", "anaconda org", "docker io", "docker com", "ghcr io",
        "quay io", "gcr io", "pkg dev", "public ecr aws", "nvcr io",
    )
)  # fmt: skip
# The CPU image needs torch without CUDA, which the default index does not have.
ALLOWED = {("cluster/Dockerfile", "download pytorch org".replace(" ", "."))}
INDEX_OPTION = re.compile(
    r"--(?:extra-)?index-" + r"url|--find-" + r"links|--trusted-" + r"host|PIP_" + r"INDEX"
)
MACHINE_PATH = re.compile(r"(?<![\w.=\-}/])/(?:" + "work" + r"/|tmp/" + r"x\b|root" + r"/)|\.\./" + "shared")


def modules(folders: tuple[str, ...] = CODE) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((REPO / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def imported(source: str) -> set[str]:
    """Top-level names of every absolute import, lazy and dynamic ones with a constant name too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and _is_dynamic_import(node.func) and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.add(first.value.split(".")[0])
    return found


def _is_dynamic_import(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"import_module", "__import__"}


def text_files() -> Iterator[tuple[str, str]]:
    """(name, content) of every text file that belongs to the project."""
    folders = (*CODE, "cluster", "docs", ".ci")
    inside = [p for folder in folders for p in (REPO / folder).rglob("*") if "__pycache__" not in p.parts]
    endings = {".md", ".toml", ".txt", ".yaml", ""}
    top = [p for p in REPO.iterdir() if p.suffix in endings and p.name != ".git"]
    for path in sorted(p for p in [*inside, *top] if p.is_file()):
        try:
            yield name_of(path), path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


def registries_in(name: str, content: str) -> list[str]:
    found = [host for host in REGISTRIES if host in content and (name, host) not in ALLOWED]
    lines = [] if any(name == n for n, _ in ALLOWED) else INDEX_OPTION.findall(content)
    return found + lines


def test_modules_are_short() -> None:
    lengths = {name_of(p): len(p.read_text("utf-8").splitlines()) for p in modules()}
    assert len(lengths) > 100, "the modules were not found"
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


def test_ray_and_deepspeed_stay_at_the_edge() -> None:
    uses = {name_of(p): imported(p.read_text("utf-8")) & CLUSTER_LIBRARIES for p in modules()}
    assert any(n.startswith("xalign_dist/runtime/") and found for n, found in uses.items())
    assert {n: u for n, u in uses.items() if u and not n.startswith(CLUSTER_FOLDERS)} == {}


def test_faiss_is_behind_one_file() -> None:
    users = [
        name_of(p)
        for p in modules(("xalign_dist", "jobs", "tuning"))
        if "faiss" in imported(p.read_text("utf-8"))
    ]
    assert users == [FAISS_FILE]


def test_no_file_names_a_package_registry() -> None:
    files = dict(text_files())
    assert {"README.md", "Makefile", "constraints.txt", "cluster/Dockerfile"} <= files.keys()
    found = {name: hosts for name, content in files.items() if (hosts := registries_in(name, content))}
    assert found == {}


def test_constraints_are_names_and_versions_only() -> None:
    """A line with a URL, a path or an option would install from the machine that wrote it."""
    lines = (REPO / "constraints.txt").read_text("utf-8").splitlines()
    assert [
        x for x in lines if not re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[A-Za-z0-9.+!]+|#.*|", x)
    ] == []


def test_no_file_has_a_path_of_this_machine() -> None:
    found = {name: hits for name, content in text_files() if (hits := MACHINE_PATH.findall(content))}
    assert found == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import ray.data as d", {"ray"}),
        ("def f():\n    from deepspeed.runtime import zero", {"deepspeed"}),
        ("import importlib\nimportlib.import_module('faiss.contrib')", {"importlib", "faiss"}),
        ("__import__('ray')", {"ray"}),
        ("from . import ray\nfrom .ray import x\nray = 'import ray'", set()),
    ],
)
def test_imports_are_found(source: str, names: set[str]) -> None:
    assert imported(source) == names


@pytest.mark.parametrize(
    ("content", "faulty"),
    [
        ("open('/{}/data')", True),
        ("see /{}/main", True),
        ("runs/{}/checkpoints", False),
        ("f'{{home}}/{}/x'", False),
        ("arms/round=1/{}/", False),
    ],
)
def test_paths_of_the_machine_are_found(content: str, faulty: bool) -> None:
    assert bool(MACHINE_PATH.search(content.format("work"))) is faulty


def test_registries_are_found() -> None:
    assert registries_in("a.md", f"pip install --index-{'url'} https://mirror") != []
    assert registries_in("a.md", f"https://{REGISTRIES[0]}/simple") == [REGISTRIES[0]]
    host = REGISTRIES[3]
    assert registries_in("cluster/Dockerfile", host) == []
    assert registries_in("xalign_dist/cli.py", host) == [host]
