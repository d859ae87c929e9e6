"""The rows of ``benchmarks/training.py`` without a peer: objective, memory, workers, Ray and DeepSpeed."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
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


_OBJECTIVES = {"dynamic": ObjectiveConfig(), "infonce": ObjectiveConfig.infonce()}


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
    """Peak memory of a large batch over a small one, same chunk, each in a process of its own.

    Embeddings, their gradient and what the loss holds of them are a part of the large batch's figure.
    """
    large, small = (2048, 128) if args.quick else (8192, 512)
    peaks = [_in_process(_peak_gb, world, batch, args.threads) for batch in (large, small)]
    name = f"peak memory, batch {large} over {small}, chunk 32"
    return [Row(name, *peaks, "GB", 1, "at most 1.15")]


def _peak_gb(world: World, batch: int, threads: int) -> float:
    torch.set_num_threads(threads)
    job = world.job(2, batch_pairs=batch, chunk_pairs=32)
    run_training(replace(job, stop_step=1), TorchEngine, device=torch.device("cpu"))
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def scaling(world: World, args: argparse.Namespace) -> list[Row]:
    """Pairs/s of two workers of one core each over one worker of one core, DeepSpeed, the same batch each."""
    if len(os.sched_getaffinity(0)) < 2:
        return []
    steps = 4 if args.quick else 10
    arms = {"ours": partial(_group_rate, world, 2, steps), "peer": partial(_group_rate, world, 1, steps)}
    middle = medians(interleaved(arms, args.repeats))
    name = "two workers of one core over one, 64 pairs a worker"
    return [Row(name, middle["ours"], middle["peer"], "pairs/s", args.repeats, "at least 1.8")]


def _group_rate(world: World, workers: int, steps: int) -> float:
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    store = str(world.home / f"store-{time.monotonic_ns()}")
    group = [
        context.Process(target=_worker, args=(world, rank, workers, steps, store, results))
        for rank in range(workers)
    ]
    for process in group:
        process.start()
    for process in group:
        process.join()
    if any(process.exitcode for process in group):
        raise SystemExit("a worker of the scaling row failed; its message stands above")
    return float(results.get())


def _worker(world: World, rank: int, workers: int, steps: int, store: str, results: Any) -> None:
    from xalign_dist.runtime.deepspeed_engine import DeepSpeedEngine

    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(workers)}
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=workers)
    clock = Clock(64 * workers, WARMUP - 1)
    job = world.job(steps + WARMUP, batch_pairs=64 * workers)
    job = replace(job, work=str(world.home / f"{Path(store).name}-work"), out=f"{store}-model")
    run_training(job, DeepSpeedEngine, clock.tick, rank, workers, torch.device("cpu"))
    dist.destroy_process_group()
    if rank == 0:
        results.put(clock.rate())


def overhead(world: World, args: argparse.Namespace) -> list[Row]:
    """Time a step on Ray Train with DeepSpeed over the bare loop, the same cores, one worker."""
    from xalign_dist.runtime.session import ray_session

    steps = 10 if args.quick else 30
    runtime = RuntimeConfig(train_workers=1)
    with ray_session(runtime):
        arms = {
            "ours": partial(_on_ray, world, runtime, steps),
            "peer": lambda: 64e3 / ours(world, steps, 64),
        }
        middle = medians(interleaved(arms, args.repeats))
    name = "Ray Train and DeepSpeed over the bare loop, batch 64"
    return [Row(name, middle["ours"], middle["peer"], "ms/step", args.repeats, "at most 1.07")]


def _on_ray(world: World, runtime: RuntimeConfig, steps: int) -> float:
    from xalign_dist.runtime.train import train

    rates: list[float] = []
    job: TrainJob = world.job(steps + WARMUP, batch_pairs=64)
    train(job, runtime, str(world.home / "ray"), lambda record: rates.append(record["pairs_per_second"]))
    return 64e3 / statistics.median(rates[WARMUP:])


def _in_process(function: Any, *args: Any) -> Any:
    """The function's result from a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function, args)
