"""What mining 10M x 10M, 100M x 100M and 1B x 1B sentences takes on named cloud machines.

    XALIGN_DATA=DIR python benchmarks/scale.py [--quick] [--json FILE]

Unit costs are measured here, on one core: embedding real sentences, building and searching each kind of
index, merging lists, writing to disk. ``scale_model.py`` multiplies them out. Assumptions, beside those
in its text:

- a core of the cloud machine is as fast as one of this machine, and cores do not slow each other down;
- an index that is searched with the effort measured here has the recall asked for (on real vectors the
  system measures it and raises the effort: each step about doubles the search);
- a search step costs at scale what it costs in the small index that was measured, but for the growth
  that ``xalign_dist.mining.plan.work`` counts: out of cache, HNSW steps cost up to 3 times as much;
- GPU nodes: embedding is taken as GPU_TEXTS texts/s a GPU, which is NOT measured here; search runs on
  their cores;
- the command maps the vectors of both sides from its disk (3 kB a sentence with a second view: 60 GB for
  10M x 10M, 6 TB for 1B x 1B) and holds texts, keys and neighbour lists in its memory, which is NOT in the
  table's GB a node: the figures are the cost of the work, not a promise that one command holds it. Split by
  topic or date (``corpora.mining_group``) it needs less work, and finds only what lies in one group;
- nodes: the least whose memory (half of it) holds the larger side's index, or as many as are named.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import common
import faiss
import numpy as np
import torch
from common import Row
from mining_data import MODEL, mining_sets
from rich.console import Console
from rich.table import Table
from scale_model import GB, KINDS, Bill, Job, Machine, Unit, cheapest

from xalign_dist.config import EncoderConfig
from xalign_dist.encoder import embed_texts, load_encoder
from xalign_dist.mining import merge_topk
from xalign_dist.mining.calibrate import measure_speed

GPU_TEXTS = 8_000.0
JOBS = {"10M x 10M": Job(1e7, 1e7), "100M x 100M": Job(1e8, 1e8), "1B x 1B": Job(1e9, 1e9)}
MORE_NODES = {"10M x 10M": 4, "100M x 100M": 32, "1B x 1B": 128}
DIM = 384


def machines(unit: Unit) -> list[Machine]:
    """Nodes as their providers list them (physical cores; network as the line rate)."""
    return [
        Machine("AWS m7i.48xlarge", 96, 768 * 2**30, 50e9 / 8, 16e12, 96),
        Machine("AWS r7i.48xlarge", 96, 1536 * 2**30, 50e9 / 8, 16e12, 96),
        Machine("GCP c3-highmem-176", 88, 1408 * 2**30, 100e9 / 8, 16e12, 88),
        Machine("AWS g6e.12xlarge (4 GPUs)", 24, 384 * 2**30, 100e9 / 8, 3.8e12, 4 * GPU_TEXTS / unit.embed),
    ]


def measured(quick: bool) -> Unit:
    """Unit costs of one core of this machine."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    speeds = {kind: measure_speed(kind, DIM) for kind in KINDS}
    build, search = ({k: getattr(s, part) for k, s in speeds.items()} for part in ("build", "search"))
    return Unit(_embedding(120 if quick else 600), build, search, _merging(), _writing())


def _embedding(texts: int) -> float:
    some = [t for found in mining_sets() for t in found.source["text"].to_pylist()[: texts // 12]]
    encoder = load_encoder(MODEL, EncoderConfig(model=MODEL))
    embed_texts(encoder, some[:8])
    start = time.perf_counter()
    embed_texts(encoder, some)
    return len(some) / (time.perf_counter() - start)


def _merging(queries: int = 8192, shards: int = 8, k: int = 16) -> float:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random((queries, shards * k), np.float32), axis=1)[:, ::-1]
    ids = rng.permutation(queries * shards * k).reshape(queries, -1)
    parts = [(scores[:, i::shards], ids[:, i::shards]) for i in range(shards)]
    start = time.perf_counter()
    merge_topk(parts, k)
    return (time.perf_counter() - start) / (queries * shards * k)


def _writing(size: int = 256 << 20) -> float:
    block = np.zeros(size // 4, np.float32)
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "x").open("wb") as out:
        start = time.perf_counter()
        np.save(out, block, allow_pickle=False)
        out.flush()
        return size / (time.perf_counter() - start)


def show(unit: Unit, bills: dict[tuple[str, str], Bill]) -> None:
    """Unit costs, then one line a job and machine."""
    console = Console(width=150)
    console.print(f"one core: {unit.embed:,.0f} texts/s, merge {unit.merge * 1e9:.0f} ns a neighbour,")
    console.print(f"disk {unit.write / GB:.2f} GB/s; seconds per unit of work: {unit.build} {unit.search}")
    table = Table("job", "machine", "nodes", "index", "GB a node", "TB disk", "TB network", "hours", "of it")
    for (job, machine), found in bills.items():
        parts = ", ".join(f"{name} {hours:,.2g}" for name, hours in found.hours.items() if hours >= 0.005)
        table.add_row(
            job, machine, str(found.nodes), found.kind, f"{found.memory / GB:,.0f}",
            f"{found.disk / 1e12:,.2f}", f"{found.network / 1e12:,.1f}", f"{found.total:,.1f}", parts,
        )  # fmt: skip
    console.print(table)


def main() -> None:
    """Command line."""
    args = common.parser(__doc__).parse_args()
    unit = measured(args.quick)
    bills: dict[tuple[str, str], Bill] = {}
    for name, job in JOBS.items():
        for machine in machines(unit):
            for nodes in (None, MORE_NODES[name]):
                found = cheapest(job, unit, machine, nodes)
                if nodes is None or found.memory <= machine.memory / 2:
                    bills[name, f"{machine.name} x {found.nodes}"] = found
    show(unit, bills)
    rows = [Row(f"{job} on {where}", b.total, None, "hours", b.nodes) for (job, where), b in bills.items()]
    common.finish("mining at scale, from measured unit costs", rows, args.json)


if __name__ == "__main__":
    main()
