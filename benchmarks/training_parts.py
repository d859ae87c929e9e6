"""The rows of ``benchmarks/training.py`` without a peer: objective, memory, workers, Ray and DeepSpeed."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from common import Row, interleaved, medians
from training_arms import WARMUP, Clock, World, ours

from xalign_dist.config import ObjectiveConfig, RuntimeConfig
from xalign_dist.objective import BatchMeta, DynamicObjective
from xalign_dist.runtime.train import KEEP_MEMORY
from xalign_dist.training import TorchEngine, TrainJob, run_training

_DIM, _LANGUAGES = 384, 8


def objective_share(world: World, args: argparse.Namespace) -> list[Row]:
    """The dynamic objective's own time over fixed InfoNCE's, as a share of the step, batch 1,024.

    Both objectives are timed alone, forward and backward, because their difference would drown in the
    noise of whole steps; the step is timed with the dynamic one.
    """
    batch = 256 if args.quick else 1024
    arms = {name: _objective_timer(config, batch) for name, config in _OBJECTIVES.items()}
    alone = medians(interleaved(arms, 5 if args.quick else 15))
    step = statistics.median(batch / ours(world, 2, batch, warmup=1) for _ in range(args.repeats))
    dynamic, fixed = 1e3 * alone["dynamic"], 1e3 * alone["infonce"]
    share = 100 * (dynamic - fixed) / (1e3 * step)
    return [
        Row(f"objective alone, batch {batch}, dynamic over InfoNCE", dynamic, fixed, "ms", 15),
        Row(
            f"dynamic objective's share of the step, batch {batch}", share, None, "% of step", 15, "at most 3"
        ),
    ]


_OBJECTIVES = {"dynamic": ObjectiveConfig.paper(), "infonce": ObjectiveConfig.infonce()}


def _objective_timer(config: ObjectiveConfig, batch: int) -> Any:
    make = torch.Generator().manual_seed(0)

    def unit() -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(batch, _DIM, generator=make), dim=1)

    objective = DynamicObjective(config, _DIM, _LANGUAGES)
    src, tgt = unit(), unit()
    language = torch.arange(batch) % (_LANGUAGES - 1)
    reference = (unit(), unit()) if config.regulariser.enabled else (None, None)
    keys = torch.arange(batch), torch.arange(batch) + batch
    meta = BatchMeta(
        *keys, torch.full_like(language, _LANGUAGES - 1), language, torch.ones(batch), *reference
    )

    def seconds() -> float:
        one, two = src.clone().requires_grad_(), tgt.clone().requires_grad_()
        began = time.perf_counter()
        objective(one, two, meta, 0.5).loss.backward()
        return time.perf_counter() - began

    seconds()
    return seconds


def memory_ratio(world: World, args: argparse.Namespace) -> list[Row]:
    """Peak memory of one large batch over the same pairs in small ones, same chunk, each in its own process.

    The same number of pairs, because oneDNN keeps some MB for every shape of a matrix that it has met, and
    more text has more shapes. The large batch's figure holds its embeddings, their gradient and the loss.
    """
    large, small = (2048, 128) if args.quick else (8192, 512)
    peaks = [_in_process(_peak_gb, world, batch, large // batch, args.threads) for batch in (large, small)]
    name = f"peak memory, a batch of {large} over {large // small} of {small}, chunk 32"
    return [Row(name, *peaks, "GB", 1, "at most 1.15")]


def _peak_gb(world: World, batch: int, steps: int, threads: int) -> float:
    torch.set_num_threads(threads)
    job = world.job(steps, batch_pairs=batch, chunk_pairs=32)
    run_training(job, TorchEngine, device=torch.device("cpu"))
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def scaling(world: World, args: argparse.Namespace) -> list[Row]:
    """Pairs/s of two workers of one core each over one worker of one core, DeepSpeed, the same batch each.

    Two workers that know nothing of each other show what the machine itself can give: its cores share
    caches, memory and power.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return []
    steps = 4 if args.quick else 10
    arms = {
        "two": lambda: sum(_rates(world, [(0, 2), (1, 2)], steps)) / 2,
        "apart": lambda: sum(_rates(world, [(0, 1), (0, 1)], steps)),
        "one": lambda: sum(_rates(world, [(0, 1)], steps)),
    }
    middle = medians(interleaved(arms, args.repeats))
    name = "two workers of one core over one, 64 pairs a worker"
    return [
        Row(name, middle["two"], middle["one"], "pairs/s", args.repeats, "at least 1.8"),
        Row("the same, the two not connected", middle["apart"], middle["one"], "pairs/s", args.repeats),
    ]


def _rates(world: World, ranks: list[tuple[int, int]], steps: int) -> list[float]:
    """Pairs/s that each of the processes saw of its group; ``ranks``: (rank, workers of its group)."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    store = f"{world.home}/store-{time.monotonic_ns()}"
    cores = sorted(os.sched_getaffinity(0))
    group = [
        context.Process(
            target=_worker,
            args=(world, rank, workers, steps, store if workers > 1 else f"{store}-{core}", core, results),
        )
        for (rank, workers), core in zip(ranks, cores, strict=False)
    ]
    for process in group:
        process.start()
    for process in group:
        process.join()
    if any(process.exitcode for process in group):
        raise SystemExit("a worker of the scaling row failed; its message stands above")
    return [float(results.get()) for _ in group]


def _worker(world: World, rank: int, workers: int, steps: int, store: str, core: int, results: Any) -> None:
    from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=workers)
    clock = Clock(64 * workers, WARMUP - 1)
    job = world.job(steps + WARMUP, batch_pairs=64 * workers)
    job = replace(job, work=f"{store}-work", out=f"{store}-model")
    run_training(job, DeepSpeedEngine, clock.tick, rank, workers, torch.device("cpu"))
    dist.destroy_process_group()
    results.put(clock.rate())


def overhead(world: World, args: argparse.Namespace) -> list[Row]:
    """Time a step on Ray Train with DeepSpeed over the bare loop, the same cores, one worker.

    From the same steps on Ray: how long they waited for data, and what of their tokens was padding.
    """
    from xalign_dist.runtime.session import ray_session

    steps = 10 if args.quick else 30
    runtime = RuntimeConfig(train_workers=1)
    seen: list[dict[str, Any]] = []
    with ray_session(runtime):
        arms = {
            "ours": partial(_on_ray, world, runtime, steps, seen),
            "peer": lambda: 64e3 / ours(world, steps, 64),
        }
        middle = medians(interleaved(arms, args.repeats))
    name = "Ray Train and DeepSpeed over the bare loop, batch 64"
    rows = [Row(name, middle["ours"], middle["peer"], "ms/step", args.repeats, "at most 1.07")]
    for key, what, goal in (
        ("data_wait_share", "steps on Ray: time waiting for data", "under 5"),
        ("padding_share", "steps on Ray: padding among encoded tokens", ""),
    ):
        share = 100 * statistics.mean(record[key] for record in seen)
        rows.append(Row(what, share, None, "%", len(seen), goal))
    return rows


def _on_ray(world: World, runtime: RuntimeConfig, steps: int, seen: list[dict[str, Any]]) -> float:
    from xalign_dist.runtime.train import train

    records: list[dict[str, Any]] = []
    job: TrainJob = world.job(steps + WARMUP, batch_pairs=64)
    train(job, runtime, str(world.home / "ray"), records.append)
    seen += records[WARMUP:]
    return 64e3 / statistics.median(record["pairs_per_second"] for record in records[WARMUP:])


def as_worker(
    measure: Callable[[World, argparse.Namespace], list[Row]], world: World, args: argparse.Namespace
) -> list[Row]:
    """A row of our own arms, measured where they run: in a process that keeps its memory as workers do."""
    before = dict(os.environ)
    os.environ |= KEEP_MEMORY
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_measured, args=(measure, world, args, results))
    process.start()
    os.environ.clear()
    os.environ |= before
    process.join()
    if process.exitcode:
        raise SystemExit("a row failed; its message stands above")
    found: list[Row] = results.get()
    return found


def _measured(measure: Any, world: World, args: argparse.Namespace, results: Any) -> None:
    torch.set_num_threads(args.threads)
    results.put(measure(world, args))


def _in_process(function: Any, *args: Any) -> Any:
    """The function's result from a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function, args)
