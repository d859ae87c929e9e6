"""The log of a submitted job, shown until the job ends."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from ray.job_submission import JobStatus, JobSubmissionClient


def follow(client: JobSubmissionClient, submission_id: str) -> int:
    """Print the job's log until it ends; its exit code, 1 where it ended without one (stopped, lost).

    A connection that ends while the job goes on (a busy or restarted agent) is made anew, and goes on
    where the log was.
    """
    shown = 0
    while True:
        shown = asyncio.run(_tail(client, submission_id, shown))
        info = client.get_job_info(submission_id)
        if info.status.is_terminal():
            break
        time.sleep(1)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    # Behind this, Ray repeats the end of the log, which was shown.
    said = (info.message or "").split(", last available logs")[0]
    sys.stderr.write(f"{submission_id} {info.status}: {said}\n")
    code = info.driver_exit_code or 1
    return code if code > 0 else 128 - code  # ended by a signal: as a shell says it


async def _tail(client: JobSubmissionClient, submission_id: str, shown: int) -> int:
    """Print the log from its character ``shown`` on, as long as the connection lasts; its length then."""
    length = 0
    with contextlib.suppress(RuntimeError):  # of a connection that broke; the job's status is asked next
        async for text in client.tail_job_logs(submission_id):
            sys.stdout.write(text[max(0, shown - length) :])
            sys.stdout.flush()
            length += len(text)
    return max(shown, length)
