"""`xalign submit`: the same as `python -m jobs.submit`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.submit import DRIVER_CPUS, parse, send


def submit(
    command: Annotated[
        list[str],
        typer.Argument(help="Verb and its arguments: run c.yaml --out RUN; two dashes may precede."),
    ],
    address: Annotated[
        str, typer.Option("--address", help="The cluster's dashboard.")
    ] = "http://127.0.0.1:8265",
    cpus: Annotated[float, typer.Option("--cpus", help="CPUs reserved for the driver.")] = DRIVER_CPUS,
    memory_gb: Annotated[
        float | None,
        typer.Option("--memory-gb", help="Memory reserved for the driver, GiB; default: none."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="Node of the driver: xalign/pool=data; else not spot."),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Only say how the job does.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the job; its run can be continued.")] = False,
    follow: Annotated[bool, typer.Option("--follow/--detach", help="Show its log until it ends.")] = True,
) -> None:
    """Send a verb to a cluster as a job; the same command again attaches to it."""
    options = ["--address", address, "--cpus", str(cpus)]
    options += [flag for flag, on in (("--detach", not follow), ("--status", status), ("--stop", stop)) if on]
    if memory_gb is not None:
        options += ["--memory-gb", str(memory_gb)]
    for item in label or []:
        options += ["--label", item]
    raise typer.Exit(send(parse([*command, *options])))


# The verb's own options, `--out` above all, are passed on where no two dashes precede them.
# Mypy knows no attributes of functions; the command line reads this one of any verb that has it.
submit.context_settings = {"ignore_unknown_options": True}  # type: ignore[attr-defined]
