"""A process of its own: scores a corpus of any size on a Ray of its own. Vectors cost next to nothing.

Prints how much memory it had before, and at most, and when each part was measured.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import ray
from scoring_world import cheap_embed, cheap_pairs

from xalign_dist.config import ScoringConfig
from xalign_dist.pipeline.score import score_staged
from xalign_dist.scoring.buckets import VectorBuckets
from xalign_dist.scoring.stage import stage


def anonymous() -> int:
    """Memory of this process that is not a file's, KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("RssAnon"))


def main(home: Path, rows: int, temp: str) -> None:
    """Lay out, embed, score."""
    config = ScoringConfig(block_rows=1024, near_misses=100)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _temp_dir=temp,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
    )
    before, over = anonymous(), threading.Event()
    peak = [before]

    def watch() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], anonymous())

    threading.Thread(target=watch, daemon=True).start()
    staged = stage(cheap_pairs(rows), home / "staged", config.block_rows, config.min_pairs, 0)
    store = VectorBuckets(home / "vectors", staged.buckets)
    for bucket in range(staged.buckets):
        if not store.done(bucket):
            texts = dict.fromkeys(t for some in staged.texts(bucket) for t in some)
            store.write(bucket, list(texts), cheap_embed)

    parts: dict[str, int] = {}

    def advance(_: int) -> None:
        parts.update({p.name: p.stat().st_mtime_ns for p in home.glob("staged/measured-*/*.parquet")})

    counts = score_staged(staged, store, "cheap", config, 0.02, home, round_=1, seed=0, advance=advance)
    over.set()
    print(json.dumps({"before": before, "peak": peak[0], "parts": parts, **counts}))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
