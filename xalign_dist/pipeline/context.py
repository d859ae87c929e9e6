"""What every stage of one run shares: config, directory, manifest, screen, cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from xalign_dist.config import RunConfig
from xalign_dist.errors import OutputError
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.manifest import Manifest
from xalign_dist.pipeline.remote import Mirror
from xalign_dist.pipeline.rundir import RunDir, is_uri
from xalign_dist.runtime.logs import EVENTS_FILE, events
from xalign_dist.runtime.meter import metered
from xalign_dist.runtime.resources import Resources
from xalign_dist.runtime.session import check_visible, dashboard_url, ray_session

SHARED_OUT = "put --out on a file system that every node mounts (/shared in cluster/)"
SHARED_SCRATCH = (
    "set runtime.scratch to a folder on a file system that every node mounts (/shared in cluster/), "
    "or use one node"
)


@dataclass(frozen=True)
class RunContext:
    """Handed from stage to stage; holds no data of its own."""

    config: RunConfig
    run: RunDir
    manifest: Manifest
    screen: Screen
    resources: Resources


@contextlib.contextmanager
def open_run(config: RunConfig, out: str, screen: Screen) -> Iterator[RunContext]:
    """Claim the run directory, then start or join Ray; faults of the user show before Ray starts.

    Of a URI the stages see the local copy, see :mod:`xalign_dist.pipeline.remote`.
    """
    out = out.removeprefix("file://")
    if not is_uri(out):
        run = RunDir.open(out, config)
        with (
            events(run.log.with_name(EVENTS_FILE), run.root.name),
            _opened(config, run, Manifest(run.root), screen, SHARED_OUT) as context,
        ):
            yield context
        return
    mirror = Mirror(out, config.runtime.scratch, config.runtime.storage_retries)
    screen.say(f"{mirror.uri} is worked on in {mirror.root}")
    mirror.fetch()
    with mirror.kept():
        try:
            run = RunDir.open(str(mirror.root), config)
        except OutputError as err:
            raise OutputError(err.problem.replace(str(mirror.root), mirror.uri), err.remedy) from None
        mirror.push()  # who may not write there learns it before the work
        with (
            events(run.log.with_name(EVENTS_FILE), mirror.uri.rpartition("/")[2]),
            _opened(config, run, Manifest(run.root, mirror.push), screen, SHARED_SCRATCH) as context,
        ):
            yield context
    screen.say(f"all of it is at {mirror.uri}")


@contextlib.contextmanager
def _opened(
    config: RunConfig, run: RunDir, manifest: Manifest, screen: Screen, remedy: str
) -> Iterator[RunContext]:
    with ray_session(config.runtime, str(run.log), trains=True) as resources, metered() as meter:
        manifest.meter = meter.hours
        check_visible(run.root, remedy)
        show_dashboard(screen)
        yield RunContext(config, run, manifest, screen, resources)


def show_dashboard(screen: Screen) -> None:
    """Where Ray's dashboard is, of a cluster that has one."""
    if (url := dashboard_url()) is not None:
        screen.say(f"Ray dashboard: {url}")
