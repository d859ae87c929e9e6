"""Submitting to a head that is starting or busy; stand-ins for its client, as it is so by chance only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus

from jobs.following import follow
from jobs.submit import Submission, submit
from xalign_dist.errors import ResourceError


class _Interrupted:
    """A client whose connection ends twice before the job does; a stand-in for an agent that is busy."""

    def __init__(self) -> None:
        self.tails = [["one\n"], ["one\ntw"], ["one\n", "two\nthree\n"]]
        self.states = [JobStatus.PENDING, JobStatus.RUNNING, JobStatus.SUCCEEDED]

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        for text in self.tails.pop(0):
            yield text
        if len(self.tails) == 1:
            raise RuntimeError("WebSocket connection closed unexpectedly")

    def get_job_info(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(status=self.states.pop(0), message="")


def test_a_log_whose_connection_ends_is_followed_to_the_jobs_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(_Interrupted(), "job-1") == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


@pytest.mark.parametrize(("code", "told"), [(3, 3), (-9, 137), (None, 1)])
def test_the_exit_code_is_the_jobs(code: int | None, told: int, capsys: pytest.CaptureFixture[str]) -> None:
    client = _Interrupted()
    client.tails, client.states = [["last words\n"], []], [JobStatus.FAILED]
    ended = client.get_job_info("job-1")
    ended.driver_exit_code, ended.message = code, "it failed, last available logs: last words"
    client.get_job_info = lambda name: ended
    assert follow(client, "job-1") == told
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("last words\n", "job-1 FAILED: it failed\n")


class _Starting:
    """A client of a head whose agent is not up yet; a stand-in, since a real one is so for a second only."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.sent: list[str] = []

    def list_jobs(self) -> list[object]:
        return []

    def submit_job(self, *, submission_id: str, **_: object) -> str:
        if self.refusals:
            raise RuntimeError(self.refusals.pop(0))
        self.sent.append(submission_id)
        return submission_id


def test_a_head_without_an_agent_yet_is_waited_for_and_any_other_refusal_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = "Request failed with status code 500: No available agent to submit job, please try again later.."
    request = Submission("run", ("--out", "/runs/a"), folder=tmp_path)
    client = _Starting(early, early)
    assert submit(client, request) == (f"{request.name}-1", True)
    assert client.sent == [f"{request.name}-1"]
    other = _Starting("Request failed with status code 500: out of disk", early)
    with pytest.raises(ResourceError, match="out of disk"):
        submit(other, request)
    assert other.refusals == [early]
    monkeypatch.setattr("jobs.submit.AGENT_SECONDS", 0.0)
    with pytest.raises(ResourceError, match="No available agent"):
        submit(_Starting(*[early] * 9), request)
