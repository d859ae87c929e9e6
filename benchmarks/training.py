"""The training step: against sentence-transformers, and what its own parts cost.

Both arms of a row train the same backbone from the same weights on the same text, in the same precision
and batch, in turns; a run's figure is the median of its steps, a row's the median of its runs. The peer
runs as its documentation says; ours runs with its defaults (trimmed vocabulary, length buckets, the whole
dynamic objective with a regulariser and an adversary, which the peer's loss has not). Rows of our own arms
alone are measured in a process that keeps its memory, as the workers of `xalign run` do.

Text: train_pairs.parquet of XALIGN_DATA, else the quickstart's catalogs.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from common import Row, finish, interleaved, machine, medians, parser, write_json
from training_arms import World, ours, peer
from training_parts import as_worker, memory_ratio, objective_share, overhead, scaling

from xalign_dist.encoder.precision import autocast_dtype

CHUNK = 64


def main() -> None:
    """Parse, measure, print."""
    args = _arguments()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    precision = args.precision
    if precision == "auto":
        precision = "fp32" if autocast_dtype("auto", torch.device("cpu")) is None else "bf16"
    with tempfile.TemporaryDirectory(prefix="xalign-bench-") as home:
        world = World.build(Path(home), f"builtin:e5-small?layers={args.layers}", precision)
        rows: list[Row] = []
        for name, measure in ROWS.items():
            if args.only is None or name in args.only:
                rows += measure(world, args)
                if args.json is not None:
                    # The rows take an hour, and a fault in the last one must not cost the others.
                    write_json(rows, machine(), args.json)
    finish(f"Training, {args.layers} layers, {precision}, {args.threads} threads", rows, args.json)


def against_peer(world: World, args: argparse.Namespace, trim: bool = False) -> list[Row]:
    """Pairs/s, batch 64 and 256: each as a user would run it, or both with our trimmed vocabulary."""
    rows = []
    for batch in (64,) if args.quick or trim else (64, 256):
        steps = max(2, 8 * 64 // batch)
        seen = _turns(
            args,
            partial(ours, world, 3 * steps, batch),
            partial(peer, world, steps, batch, trim=trim),
        )
        what = "both vocabularies trimmed" if trim else "as a user runs it"
        rows.append(_rate(f"batch {batch}, {what}", seen, args, "at least " + ("1.4" if trim else "2.3")))
    return rows


def against_cached_peer(world: World, args: argparse.Namespace) -> list[Row]:
    """Pairs/s with cached gradients, batch 2,048, once: a step of the peer takes minutes."""
    batch = 512 if args.quick else 2048
    arms = {
        "ours": partial(ours, world, 2, batch, warmup=1, chunk_pairs=CHUNK),
        "peer": partial(peer, world, 1, batch, cached_chunk=32, warmup=1),
    }
    middle = medians(interleaved(arms, 1))
    name = f"batch {batch}, cached gradients, chunk {CHUNK}"
    return [Row(name, middle["ours"], middle["peer"], "pairs/s", 1, "at least 2")]


def cached_cost(world: World, args: argparse.Namespace) -> list[Row]:
    """Time a pair, cached over uncached: the same length buckets, of at most CHUNK pairs."""
    batch = 256
    steps = 2 if args.quick else 4
    seen = _turns(
        args,
        partial(ours, world, steps, batch, chunk_pairs=CHUNK),
        partial(ours, world, steps, batch),
    )
    middle = medians({arm: [1e3 / rate for rate in rates] for arm, rates in seen.items()})
    goal = "at most 1.40"
    return [
        Row(
            f"cached over uncached, batch {batch}",
            middle["ours"],
            middle["peer"],
            "ms/pair",
            args.repeats,
            goal,
        )
    ]


ROWS: dict[str, Callable[[World, argparse.Namespace], list[Row]]] = {
    "peer": against_peer,
    "trimmed": partial(against_peer, trim=True),
    "cached-peer": against_cached_peer,
    "cached": partial(as_worker, cached_cost),
    "objective": partial(as_worker, objective_share),
    "memory": partial(as_worker, memory_ratio),
    "scaling": partial(as_worker, scaling),
    "overhead": partial(as_worker, overhead),
}


def _turns(
    args: argparse.Namespace, one: Callable[[], float], two: Callable[[], float]
) -> dict[str, list[float]]:
    return interleaved({"ours": one, "peer": two}, args.repeats)


def _rate(name: str, seen: dict[str, list[float]], args: argparse.Namespace, goal: str) -> Row:
    middle = medians(seen)
    return Row(name, middle["ours"], middle["peer"], "pairs/s", args.repeats, goal)


def _arguments() -> argparse.Namespace:
    out = parser(__doc__)
    out.add_argument("--layers", type=int, default=4, help="of builtin:e5-small: 1 to 12 (default 4)")
    out.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    out.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    out.add_argument("--only", nargs="+", choices=list(ROWS), help="these rows only")
    args = out.parse_args()
    args.repeats = 1 if args.quick else 5
    return args


if __name__ == "__main__":
    main()
