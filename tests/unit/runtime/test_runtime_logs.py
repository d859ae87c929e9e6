"""Events: one JSON object a line, whatever is in it, with what the thread is at work on."""

from __future__ import annotations

import contextvars
import json
import logging
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from xalign_dist.errors import DataError, OutputError
from xalign_dist.runtime.logs import at, events, skipped_event, stage_events

log = logging.getLogger("xalign_dist.somewhere")


def written(path: Path) -> list[dict[str, Any]]:
    """Bytes are split at line feeds only, as `jq` and every collector do."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_an_event_says_when_who_what_and_where(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    with events(tmp_path / "logs" / "e.jsonl", "my-run"), at(stage="mine", round=2):
        log.info("found %d", 7, extra={"figures": {"seconds": 1.5}})
    (event,) = written(tmp_path / "logs" / "e.jsonl")
    time = datetime.fromisoformat(event.pop("time"))
    assert time.utcoffset() is not None
    assert abs((time - before).total_seconds()) < 5
    assert event == {
        "level": "info",
        "logger": "xalign_dist.somewhere",
        "message": "found 7",
        "run": "my-run",
        "stage": "mine",
        "round": 2,
        "seconds": 1.5,
    }


@pytest.mark.parametrize(
    "text",
    ["two\nlines\r\n", "a\u2028separator\x0b\x85", 'a "quote" \\', "\ud800 alone", "日本語 \x00", "{}%s"],
)
def test_no_text_breaks_a_line(tmp_path: Path, text: str) -> None:
    with events(tmp_path / "e.jsonl", text):
        log.info("%s", text, extra={"figures": {"sample": [text]}})
    assert len((tmp_path / "e.jsonl").read_bytes().decode("ascii").splitlines()) == 1
    (event,) = written(tmp_path / "e.jsonl")
    assert (event["message"], event["run"], event["sample"]) == (text, text, [text])


def test_figures_that_json_lacks(tmp_path: Path) -> None:
    with events(tmp_path / "e.jsonl", "r"):
        log.info("x", extra={"figures": {"loss": float("nan"), "most": [float("-inf")], "path": Path("a/b")}})
    (line,) = (tmp_path / "e.jsonl").read_text("utf-8").splitlines()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    event = json.loads(line, parse_constant=refuse)
    assert (event["loss"], event["most"], event["path"]) == ("nan", ["-inf"], "a/b")


def test_secrets_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/me/token")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    with events(tmp_path / "e.jsonl", "r"):
        try:
            raise ValueError("key wJalrXUtnFEMI/K7 refused")
        except ValueError:
            log.exception("with 0123456789abcdef at s3://me:hush@host/b, true, see /home/me/token")
        log.info("x", extra={"figures": {"a": {"b": ["0123456789abcdef"]}}})
    text = (tmp_path / "e.jsonl").read_text("utf-8")
    assert not [secret for secret in ("0123456789abcdef", "wJalrXUtnFEMI", "hush") if secret in text]
    first, second = written(tmp_path / "e.jsonl")
    assert first["message"] == "with *** at s3://***@host/b, true, see /home/me/token"
    assert "ValueError: key *** refused" in first["trace"]
    assert second["a"] == {"b": ["***"]}


def test_a_stage_is_two_events_and_its_round_is_in_its_name(tmp_path: Path) -> None:
    figures: dict[str, Any] = {}
    with events(tmp_path / "e.jsonl", "r"):
        with stage_events("round 12: score", figures):
            figures["counts"] = {"pairs": 5}
            log.warning("inside")
        with pytest.raises(DataError), stage_events("clean", {}):
            raise DataError("no text", "give some")
        skipped_event("adaptive: round 1")
    began, inside, ended, _, failed, skipped = written(tmp_path / "e.jsonl")
    assert [e["message"] for e in (began, inside, ended, skipped)] == [
        "stage began", "inside", "stage ended", "stage skipped",
    ]  # fmt: skip
    assert {(e["stage"], e["round"]) for e in (began, inside, ended)} == {("round 12: score", 12)}
    assert ended["counts"] == {"pairs": 5}
    assert 0 <= ended["seconds"] < 5
    assert failed["level"] == "error"
    assert failed["message"].startswith("stage failed: DataError: no text")
    assert (failed["stage"], failed["round"]) == ("clean", None)
    assert (skipped["stage"], skipped["round"]) == ("adaptive: round 1", 1)


def test_where_ends_with_its_block_and_a_thread_takes_it_along_in_a_copy(tmp_path: Path) -> None:
    with events(tmp_path / "e.jsonl", "r"):
        with at(stage="train"):
            inside = contextvars.copy_context()
        for run in (lambda work: work(), inside.run):
            thread = threading.Thread(target=run, args=(lambda: log.info("x"),))
            thread.start()
            thread.join()
        log.info("x")
    assert [(e["run"], e["stage"]) for e in written(tmp_path / "e.jsonl")] == [
        (None, None), ("r", "train"), ("r", None),
    ]  # fmt: skip


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    loggers = [logging.getLogger(name) for name in ("xalign_dist", "tuning", "jobs")]
    before = [(list(logger.handlers), logger.level) for logger in loggers]
    with events(tmp_path / "a.jsonl", "a"), events(tmp_path / "b.jsonl", "b"):
        log.info("both")
    assert [(list(logger.handlers), logger.level) for logger in loggers] == before
    log.warning("none")
    assert [len(written(tmp_path / f"{name}.jsonl")) for name in "ab"] == [1, 1]


def test_warnings_are_still_shown_once_but_not_what_was_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a command: pytest's own handlers would stand for those of an application that has set up logging.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with events(tmp_path / "a.jsonl", "a"), events(tmp_path / "b.jsonl", "b"):
        log.info("quiet")
        log.warning("shown")
        log.warning("said elsewhere", extra={"said": True})
    assert capsys.readouterr().err == "shown\n"
    assert len(written(tmp_path / "a.jsonl")) == 3


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"), events(tmp_path / "file" / "e.jsonl", "r"):
        pass
