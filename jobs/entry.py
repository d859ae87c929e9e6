"""What every job does: take the verb's own command line, and run it on the cluster it was sent to."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from xalign_dist.cli import main


def start(verb: str) -> None:
    """Run `xalign VERB` with this process's arguments; exits as the verb does."""
    sys.argv = ["xalign", verb, *on_cluster(sys.argv[1:], os.environ)]
    main()


def on_cluster(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """``arguments`` with the cluster's address, where the process is a job and none is given.

    Ray tells a job its cluster in RAY_ADDRESS. Without the address the verb would start a
    second, embedded Ray beside it.
    """
    given = any(a == "--address" or a.startswith("--address=") for a in arguments)
    if given or not environment.get("RAY_ADDRESS"):
        return list(arguments)
    return [*arguments, "--address", environment["RAY_ADDRESS"]]
