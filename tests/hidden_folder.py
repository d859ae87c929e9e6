"""A process of its own: verbs on a cluster of two nodes, with a folder that only this process sees.

Prints JSON lines: of each verb, what it said, how it ended and how long that took.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

LAYER = "builtin:e5-small?layers=1"
# A folder by a number that means something to this process only: as a disk of one machine's own.
NUMBER = 900
HIDDEN = Path(f"/proc/self/fd/{NUMBER}")
# So small that a verb which is let through comes to its end soon.
CONFIG = {
    "encoder": {"model": LAYER},
    "scoring": {"reference": LAYER},
    "mining": {"second_view": "none"},
    "training": {"steps": 2, "batch_pairs": 8},
    "rounds": {"count": 1},
    "evaluation": {"bootstrap": 100, "permutations": 100, "baselines": []},
    "runtime": {"train_workers": 1, "gpus_per_worker": 0},
}


def keep_its_name() -> None:
    """A disk of a machine's own has no other name; that of our folder is a link, and stays unfollowed."""
    real = Path.resolve

    def resolve(path: Path, strict: bool = False) -> Path:
        return path if path.is_relative_to(HIDDEN) else real(path, strict)

    Path.resolve = resolve  # type: ignore[method-assign]


def whole_runs(home: Path, pairs: Path) -> dict[str, Callable[[str], object]]:
    """The verbs that have a run directory."""
    import yaml
    from rich.console import Console

    from tuning.ablation import ablate
    from tuning.command import sweep
    from xalign_dist.config import load_config
    from xalign_dist.pipeline.console import Screen
    from xalign_dist.pipeline.rounds import run_all
    from xalign_dist.pipeline.train_file import train_file

    config, space = home / "run.yaml", home / "space.yaml"
    corpora = [{"path": str(pairs), "src_lang": "en", "tgt_lang": "de"}]
    config.write_text(yaml.safe_dump({**CONFIG, "corpora": corpora}))
    space.write_text(
        yaml.safe_dump({"parameters": {"training.learning_rate": {"grid": [0.0001, 0.001]}}, "finalists": 0})
    )
    settings, screen = load_config(str(config)), Screen(False, Console(file=io.StringIO()))

    def at_a_uri(out: str) -> object:
        there = load_config(str(config), [f"runtime.scratch={out}"])
        return run_all(there, "memory://bucket/one", screen)

    return {
        "run": lambda out: run_all(settings, out, screen),
        "train": lambda out: train_file(str(pairs), {}, out, settings, screen),
        "sweep": lambda out: sweep(str(config), str(space), out=out),
        "ablate": lambda out: ablate(str(config), out=out),
        "scratch": at_a_uri,
    }


def verbs(home: Path) -> dict[str, Callable[[str], object]]:
    """Each verb, with its results at the given place."""
    from rich.console import Console

    from xalign_dist.config import CleaningConfig, CorpusConfig, RunConfig, RuntimeConfig
    from xalign_dist.encoder import load_encoder, save_encoder
    from xalign_dist.pipeline import files
    from xalign_dist.pipeline.console import Screen
    from xalign_dist.pipeline.evaluate_file import evaluate_file

    pairs, lines, suite = home / "pairs.tsv", home / "lines.txt", home / "suite.yaml"
    pairs.write_text("src\ttgt\n" + "".join(f"one text {n}\tein Text {n}\n" for n in range(50)))
    lines.write_text("".join(f"one text {n}\n" for n in range(50)))
    suite.write_text(f"tasks: [{{task: retrieval, data: {home / 'test.parquet'}}}]\n")
    save_encoder(load_encoder(LAYER), str(HIDDEN / "model"))
    config, screen = RunConfig(), Screen(False, Console(file=io.StringIO()))
    corpus = CorpusConfig(path=str(pairs), src_lang="en", tgt_lang="de")
    return {
        "clean": lambda out: files.clean_files([corpus], CleaningConfig(), out, RuntimeConfig(), screen),
        "score": lambda out: files.score_file(LAYER, str(pairs), {}, out, config, screen),
        "encode": lambda out: files.encode_file(LAYER, str(lines), {}, out, config, screen),
        "mine": lambda out: files.mine_files(
            LAYER, str(lines), str(lines), {}, out, config, screen, "en", "de"
        ),
        "evaluate": lambda out: evaluate_file(
            [str(HIDDEN / "model")], str(suite), f"{out}.json", config, screen
        ),
        **whole_runs(home, pairs),
    }


def main(home: Path) -> None:
    """Try them all."""
    os.environ |= {"RAY_worker_niceness": "0"}
    import ray
    from ray.cluster_utils import Cluster

    from xalign_dist.errors import XalignError
    from xalign_dist.runtime.session import check_seen, check_visible

    node = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **node})
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        check_visible(home, "")
        check_seen(home, "")
        print(
            json.dumps({"verb": "none", "seen": str(home), "left": sorted(p.name for p in home.iterdir())}),
            flush=True,
        )
        inside = home / "inside"
        inside.mkdir()
        os.dup2(os.open(inside, os.O_RDONLY), NUMBER, inheritable=False)
        keep_its_name()
        for verb, work in verbs(home).items():
            started = time.monotonic()
            try:
                said = str(work(str(HIDDEN / verb)))
            except XalignError as err:
                said = f"{type(err).__name__}: {err}"
            print(json.dumps({"verb": verb, "said": said, "seconds": time.monotonic() - started}), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
