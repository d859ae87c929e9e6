"""The policy for runs on S3 against what a run asks of a real server, and what its error names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from s3_server import BUCKET, Server, s3_environment

from xalign_dist.errors import OutputError
from xalign_dist.pipeline.remote import Mirror

IAM = Path(__file__).parents[3] / "cluster" / "iam"
RUN = f"s3://{BUCKET}/runs/one"


def _statements(name: str) -> list[dict[str, Any]]:
    text = (IAM / name).read_text("utf-8").replace("BUCKET", BUCKET)
    return list(json.loads(text)["Statement"])


def _actions(statement: dict[str, Any]) -> set[str]:
    given = statement["Action"]
    return {given} if isinstance(given, str) else set(given)


@pytest.fixture
def server() -> Iterator[Server]:
    with s3_environment() as it:
        yield it


def _needs(method: str, address: str) -> tuple[str, str, str | None]:
    """(action, ARN, listed prefix) that Amazon asks for, for such a request."""
    parts = urlsplit(address)
    bucket, _, key = parts.path.lstrip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    if not key:
        assert method in {"GET", "HEAD"}, address
        return "s3:ListBucket", arn, parse_qs(parts.query).get("prefix", [None])[0]
    action = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "POST": "Put", "DELETE": "Delete"}[method]
    return f"s3:{action}Object", f"{arn}/{key}", None


def _allows(statement: dict[str, Any], action: str, arn: str, prefix: str | None) -> bool:
    patterns = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
    listed = patterns is None or (prefix is not None and any(fnmatchcase(prefix, p) for p in patterns))
    return action in _actions(statement) and fnmatchcase(arn, statement["Resource"]) and listed


def test_the_policy_of_runs_has_the_actions_that_the_error_names_and_no_others(
    server: Server, tmp_path: Path
) -> None:
    server.refused = frozenset({"GET", "HEAD", "PUT"})
    with pytest.raises(OutputError, match="access refused") as refused:
        Mirror(RUN, str(tmp_path), retries=0).fetch()
    named = {f"s3:{name}" for name in re.findall(r"[A-Z]\w+", refused.value.remedy.partition("s3:")[2])}
    assert set().union(*map(_actions, _statements("aws-runs-policy.json"))) == named


def test_the_policy_of_runs_lets_a_run_be_kept_continued_and_tidied(server: Server, tmp_path: Path) -> None:
    before = len(server.requests)
    first = Mirror(RUN, str(tmp_path / "a"))
    first.fetch()
    for name in ("config.yaml", "corpus.txt", "manifest.json"):
        (first.root / name).write_text('{"stages": {}}')
    with first.kept():
        first.push()
        (first.root / "corpus.txt").unlink()
    second = Mirror(RUN, str(tmp_path / "b"))
    second.fetch()
    assert (second.root / "config.yaml").exists()

    asked = {_needs(method, address) for method, address in server.requests[before:]}
    assert {action for action, _, _ in asked} == {
        "s3:ListBucket",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
    }
    policy = _statements("aws-runs-policy.json")
    assert [need for need in sorted(asked, key=str) if not any(_allows(s, *need) for s in policy)] == []


def test_nothing_beside_runs_can_be_written_or_listed() -> None:
    for statement in _statements("aws-runs-policy.json"):
        if statement["Resource"] == f"arn:aws:s3:::{BUCKET}":
            assert statement["Condition"] == {"StringLike": {"s3:prefix": ["runs/*"]}}
        else:
            assert statement["Resource"] == f"arn:aws:s3:::{BUCKET}/runs/*"
    # Without it a worker changes nothing: runs lie on the shared file system.
    worker = set().union(*map(_actions, _statements("aws-worker-policy.json")))
    assert worker == {"s3:ListBucket", "s3:GetObject"}


def test_the_notes_on_rights_name_every_policy() -> None:
    notes = (IAM.parent / "README.md").read_text("utf-8").partition("## Least privilege")[2]
    for path in IAM.glob("*.json"):
        assert f"`iam/{path.name}`" in notes
