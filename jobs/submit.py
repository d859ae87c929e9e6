"""Send a job to a cluster: `python -m jobs.submit VERB ARGS... --out RUN --address http://HOST:8265`.

Submitting the same thing twice attaches to the first: the submission's id is made from what is
asked for (verb, arguments, contents of the configs among them), not from the time of day.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from tenacity import Retrying, retry_if_exception_message, stop_after_delay, wait_fixed

from jobs.arguments import as_sent, check_options, check_out, is_yaml, out_of
from jobs.following import follow
from jobs.inputs import check_inputs
from jobs.packing import check_size, staged
from xalign_dist.errors import ConfigError, ResourceError, XalignError
from xalign_dist.runtime.session import AUTHENTICATE

VERBS = ("run", "clean", "score", "mine", "train", "encode", "evaluate", "ablate", "sweep")
ACTIONS = ("submit", "status", "stop")
SAFE = {"xalign/market": "!spot"}
"""Nodes on which a driver runs: any but those that may be taken back. Nodes without the label will do."""
DRIVER_CPUS = 0.25
"""With a whole one, stages on a machine of two cores would wait for ever for half a CPU more than is left."""

NO_AGENT = "No available agent to submit job"
"""In what Ray says then."""
AGENT_SECONDS = 60.0

STOP_SECONDS = 15.0
"""How long ``--stop`` looks on; Ray asks a job to end, and kills it after some seconds."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job as it is asked for.

    Attributes:
        verb: one of :data:`VERBS`.
        arguments: of the verb, as typed.
        cpus: reserved for the job's driver (its stages ask for their own).
        memory: bytes reserved for the driver; None: none.
        labels: of the node on which the driver runs.
        folder: what is sent with it, and what relative paths among the arguments start from.
    """

    verb: str
    arguments: tuple[str, ...]
    cpus: float = DRIVER_CPUS
    memory: int | None = None
    labels: dict[str, str] | None = None
    folder: Path = field(default_factory=Path.cwd)

    @property
    def entrypoint(self) -> str:
        """The shell command that the cluster runs."""
        return shlex.join(["python", "-m", f"jobs.{self.verb}", *self.arguments])

    @property
    def configs(self) -> tuple[str, ...]:
        """The YAML files among the arguments."""
        return tuple(a for a in self.arguments if is_yaml(self.folder / a))

    @property
    def metadata(self) -> dict[str, str]:
        """What Ray's dashboard and `ray job list` show of the job, beside its id."""
        return {
            "verb": self.verb,
            "name": self.name,
            "run_directory": out_of(self.arguments),
            "config": " ".join(self.configs),
        }

    @property
    def name(self) -> str:
        """The same for the same request: verb, run directory, digest of arguments and configs."""
        digest, configs = hashlib.sha256(self.verb.encode()), self.configs
        for argument in self.arguments:
            digest.update(b"\0" + argument.encode())
            if argument in configs:
                digest.update(b"\0" + (self.folder / argument).read_bytes())
        run = re.sub(r"[^A-Za-z0-9]+", "-", out_of(self.arguments).rstrip("/").rsplit("/", 1)[-1]).strip("-")
        return "-".join(part for part in ("xalign", self.verb, run, digest.hexdigest()[:12]) if part)


def submit(client: JobSubmissionClient, request: Submission) -> tuple[str, bool]:
    """Start ``request``, or find it: (submission id, whether it was started now).

    A job of the same name that waits, runs or has succeeded is attached to. One that failed or
    was stopped is started again under the next number; it continues from its run directory.

    Raises:
        ConfigError: the folder is too large to be sent, or the job reads files that are not sent.
        ResourceError: the cluster refuses the job.
    """
    attempts = _attempts(client, request.name)
    if attempts:
        last = max(attempts)
        if attempts[last].status not in {JobStatus.FAILED, JobStatus.STOPPED}:
            return _numbered(request.name, last), False
    check_size(request.folder)
    check_inputs(request.verb, request.arguments, request.folder)
    wanted = _numbered(request.name, max(attempts, default=0) + 1)
    # A head that has only just started, or is very busy, has no agent that would take a job.
    patient = Retrying(
        retry=retry_if_exception_message(match=f".*{NO_AGENT}"),
        wait=wait_fixed(1),
        stop=stop_after_delay(AGENT_SECONDS),
        reraise=True,
    )
    try:
        with staged(request.folder) as folder:
            patient(
                client.submit_job,
                entrypoint=request.entrypoint,
                submission_id=wanted,
                runtime_env={"working_dir": str(folder)},
                entrypoint_num_cpus=request.cpus,
                entrypoint_memory=request.memory,
                entrypoint_label_selector=request.labels,
                metadata=request.metadata,
            )
    except RuntimeError as err:
        raise ResourceError(
            f"the cluster refused {wanted}: {_first_line(err)}",
            "check the cluster's state and Ray's version there",
        ) from err
    return wanted, True


def connect(address: str) -> JobSubmissionClient:
    """A client of the cluster whose dashboard is at ``address``.

    Raises:
        ResourceError: nothing answers there, or the token is refused.
    """
    for chatty in ("ray.dashboard.modules", "ray._private.runtime_env.packaging"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as err:
        raise ResourceError(
            f"the cluster at {address} refuses the token: {_first_line(err).split('. ')[0]}", AUTHENTICATE
        ) from err
    except (ConnectionError, RuntimeError) as err:
        raise ResourceError(
            f"no job server at {address}: {_first_line(err)}",
            "check host and port, or open the tunnel: ray dashboard cluster/aws.yaml",
        ) from err


@dataclass(frozen=True, slots=True)
class Order:
    """A command line: what is asked for, of which cluster, whether to wait, one of :data:`ACTIONS`."""

    request: Submission
    address: str
    follow: bool
    action: str = "submit"


def parse(argv: Sequence[str]) -> Order:
    """The order that a command line gives.

    Raises:
        ConfigError: a label is not key=value, --out is missing or relative, or a config is not in the
            current folder.
        OutputError: --out is a URI, and the verb writes to file systems only.
    """
    parser = argparse.ArgumentParser(prog="python -m jobs.submit", description=__doc__)
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("--address", default="http://127.0.0.1:8265", help="the cluster's dashboard")
    parser.add_argument("--cpus", type=float, default=DRIVER_CPUS, help="CPUs reserved for the driver")
    parser.add_argument("--memory-gb", type=float, default=None, help="GiB reserved for the driver")
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="node of the driver; default: not spot",
    )
    parser.add_argument("--follow", action="store_true", default=True, help="show its log until it ends")
    parser.add_argument("--detach", action="store_false", dest="follow", help="do not wait for the job's end")
    parser.add_argument("--status", action="store_true", help="only say how the job does")
    parser.add_argument("--stop", action="store_true", help="stop the job; its run can be continued")
    own, rest = parser.parse_known_args(argv)
    labels = dict(item.split("=", 1) for item in own.label if "=" in item)
    if len(labels) != len(own.label):
        raise ConfigError(f"--label {own.label} is not key=value", "write --label xalign/pool=data")
    check_options(own.verb, rest, [o for action in parser._actions for o in action.option_strings])
    check_out(own.verb, out_of(rest))
    folder = Path.cwd()
    rest = [as_sent(argument, folder) for argument in rest]
    memory = None if own.memory_gb is None else int(own.memory_gb * 2**30)
    action = "status" if own.status else "stop" if own.stop else "submit"
    request = Submission(own.verb, tuple(rest), own.cpus, memory, labels or SAFE, folder)
    return Order(request, own.address, own.follow, action)


def send(order: Order) -> int:
    """Submit and follow, or look, or stop; the exit code of a followed job is the job's.

    Raises:
        ResourceError: no cluster answers, it refuses the job, or it does not know it.
    """
    client, request = connect(order.address), order.request
    if order.action != "submit":
        return _existing(client, request, order.action)
    name, started = submit(client, request)
    sys.stdout.write(f"{'started' if started else 'attached to'} {name}\n")
    if not order.follow:
        return 0
    try:
        return follow(client, name)
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{name} goes on; the same command attaches to it again\n")
        return 130


def _existing(client: JobSubmissionClient, request: Submission, action: str) -> int:
    attempts = _attempts(client, request.name)
    if not attempts:
        raise ResourceError(
            f"the cluster knows no job {request.name}", "give the same arguments as when it was submitted"
        )
    name = _numbered(request.name, max(attempts))
    if action == "stop":
        client.stop_job(name)
        until = time.monotonic() + STOP_SECONDS
        while not client.get_job_status(name).is_terminal() and time.monotonic() < until:
            time.sleep(0.2)
    status = client.get_job_status(name)
    sys.stdout.write(f"{name} {status}\n")
    return 1 if status == JobStatus.FAILED else 0


def main(argv: Sequence[str]) -> int:
    """The command line; errors are one message."""
    try:
        return send(parse(argv))
    except XalignError as err:
        sys.stderr.write(f"{err}\n")
        return err.exit_code


def _attempts(client: JobSubmissionClient, name: str) -> dict[int, JobDetails]:
    found = {}
    for job in client.list_jobs():
        number = re.fullmatch(rf"{re.escape(name)}-(\d+)", job.submission_id or "")
        if number:
            found[int(number.group(1))] = job
    return found


def _numbered(name: str, attempt: int) -> str:
    return f"{name}-{attempt}"


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
