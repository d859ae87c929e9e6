"""The documents say what the code does: commands, settings, paths and names in them exist."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from jobs.submit import parse
from tuning.space import Space
from xalign_dist import cli
from xalign_dist.config import RunConfig, parse_config
from xalign_dist.config.load import apply_override
from xalign_dist.evaluation.suite import parse_suite
from xalign_dist.pipeline.quickstart_data import HIGH, LOW, UNSEEN

REPO = Path(__file__).parents[2]
README = (REPO / "README.md").read_text("utf-8")
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "cluster/README.md",
    *sorted(f"docs/{path.name}" for path in (REPO / "docs").glob("*.md")),
]
TREE = re.search(r"<!-- tree -->\n```text\n(.*?)```\n<!-- /tree -->", README, re.DOTALL)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SETTING = re.compile(r"[a-z_]+(\.[a-z_0-9]+)+=")


def text(name: str) -> str:
    return (REPO / name).read_text("utf-8")


def blocks(name: str, language: str) -> list[str]:
    return [body for kind, body in _FENCE.findall(text(name)) if kind == language]


def command_lines(name: str) -> list[list[str]]:
    """The commands of a document's shell blocks, continued lines joined, comments left out."""
    lines = "\n".join([*blocks(name, "bash"), *blocks(name, "")]).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@cache
def verbs() -> dict[str, Any]:
    """Every verb of `xalign`, those of jobs and tuning among them, as a click command."""
    app = typer.Typer()
    app.registered_commands = list(cli.app.registered_commands)
    known = {c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands}
    for point in entry_points(group="xalign.verbs"):
        if point.name not in known:
            app.command(name=point.name)(point.load())
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_verbs_that_are_named_exist(name: str) -> None:
    named = set(re.findall(r"\bxalign (?:--debug )?([a-z]+)", "\n".join(_code(text(name)))))
    assert named <= set(verbs()), f"{name} names verbs that `xalign` does not have"


def _code(document: str) -> list[str]:
    """Code blocks and code spans: in prose "xalign" may be followed by any word."""
    return [*(body for _, body in _FENCE.findall(document)), *re.findall(r"`([^`\n]+)`", document)]


def test_readme_names_every_verb() -> None:
    missing = [verb for verb in verbs() if not re.search(rf"\bxalign (--debug )?{verb}\b", README)]
    assert missing == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_command_lines_are_accepted(name: str) -> None:
    """Unknown options, missing ones and unknown settings end in an error; nothing is run."""
    for words in command_lines(name):
        if words[:3] == ["python", "-m", "jobs.submit"]:
            _accepted_as_a_job(words[3:])
        elif words[0] == "python":
            assert (REPO / words[1]).is_file(), words
        elif Path(words[0]).name == "xalign":
            verbs()[words[1]].make_context(words[1], words[2:])
            if words[1] == "submit":
                own, sent = words[2 : words.index("--")], words[words.index("--") + 1 :]
                _accepted_as_a_job([*sent, *own])
            settings: dict[str, Any] = {}
            for word in words:
                if _SETTING.match(word):
                    apply_override(settings, word)
            parse_config(settings, f"{name}: {' '.join(words)}")


def _accepted_as_a_job(words: list[str]) -> None:
    """Of `python -m jobs.submit`: its own options, then what is left for the verb."""
    request = parse([word.replace("$RUNS", "/shared/runs") for word in words]).request
    verbs()[request.verb].make_context(request.verb, list(request.arguments))


def test_jobs_are_submitted_in_the_documents_of_clusters() -> None:
    for name, words in (("README.md", "submit"), ("cluster/README.md", "jobs.submit")):
        assert any(words in line for line in command_lines(name)), name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_yaml_blocks_validate(name: str) -> None:
    for body in blocks(name, "yaml"):
        data = yaml.safe_load(body)
        if "tasks" in data:
            parse_suite(data, f"suite in {name}")
        elif "parameters" in data:
            Space.model_validate(data)
        else:
            assert set(data) <= set(RunConfig.model_fields)
            parse_config(data, f"config in {name}")


def test_readme_has_a_whole_config() -> None:
    configs = [c for c in map(yaml.safe_load, blocks("README.md", "yaml")) if "corpora" in c]
    assert [{c.get("kind", "pairs") for c in config["corpora"]} for config in configs] == [
        {"pairs", "sentences"}
    ]


def tree_paths() -> list[str]:
    """Paths of the tree, nested ones under the line that they are indented below."""
    assert TREE is not None
    paths: list[str] = []
    parent = ""
    for line in TREE.group(1).splitlines():
        name = line.split()[0]
        if line.startswith(" "):
            paths.append(parent + name)
        else:
            parent = name
            paths.append(name)
    return paths


@pytest.mark.parametrize("path", tree_paths())
def test_path_of_the_tree_exists(path: str) -> None:
    found = REPO / path
    assert found.is_dir() if path.endswith("/") else found.is_file()


def test_tree_has_every_part_of_the_package() -> None:
    parts = {f"xalign_dist/{p.parent.name}/" for p in (REPO / "xalign_dist").glob("*/__init__.py")}
    assert parts <= set(tree_paths())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)\)", text(name))
    local = [t for t in targets if "://" not in t]
    assert [t for t in local if not (REPO / name).parent.joinpath(t).exists()] == []


def test_python_in_the_readme_uses_names_that_exist() -> None:
    found = blocks("README.md", "python")
    assert found
    for body in found:
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xalign_dist"):
                module = importlib.import_module(node.module or "")
                assert [a.name for a in node.names if not hasattr(module, a.name)] == []


def test_settings_that_are_named_exist() -> None:
    """`section.field` in a code span, where section is one of the config's; `pairs.parquet` is a file."""
    known = {f"{s}.{f}" for s, fields in _sections().items() for f in fields}
    for name in DOCUMENTS:
        spans = re.findall(r"`([a-z_]+\.(?!parquet)[a-z_]+)`", text(name))
        wrong = [s for s in spans if s.split(".")[0] in _sections() and s not in known]
        assert wrong == [], name


def _sections() -> dict[str, set[str]]:
    sections = {}
    for name, field in RunConfig.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            sections[name] = set(field.annotation.model_fields)  # type: ignore[union-attr]
    return sections


def test_quickstart_languages_and_output_block() -> None:
    for languages in (HIGH, LOW, UNSEEN):
        assert f"| {' '.join(languages)} |" in README
    assert README.count("<!-- quickstart-output -->") == README.count("<!-- /quickstart-output -->") == 1
