"""What every stage of one run shares: config, directory, manifest, screen, cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from xalign_dist.config import RunConfig
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.manifest import Manifest
from xalign_dist.pipeline.rundir import RunDir
from xalign_dist.runtime.session import Resources, ray_session


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
    """Claim the run directory, then start or join Ray; faults of the user show before Ray starts."""
    run = RunDir.open(out, config)
    manifest = Manifest(run.root)
    with ray_session(config.runtime, str(run.log)) as resources:
        yield RunContext(config, run, manifest, screen, resources)
