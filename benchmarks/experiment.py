"""The experiment behind RESULTS.md: every arm of the method and every baseline, on realistic noise.

    XALIGN_DATA=DIR python benchmarks/experiment.py --out DIR [--seeds 3] [--kept DIR] [--json FILE]

Makes the data (experiment_data.py), trains each arm of `xalign ablate` under each seed, the full method
on clean text and with the hidden translations given (oracle), measures encoders that were not trained
on the same suite, and states each claim of the paper as shown or not. The same command goes on with
what is missing; what is there is not made again. The scores of single items go to --kept, a file a seed:
--kept benchmarks/results/experiment makes the tables of RESULTS.md again and trains only further seeds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import common
import numpy as np
import yaml
from experiment_claims import (
    TASKS,
    UNSEEN,
    Arm,
    Groups,
    Test,
    corrected,
    difference,
    suite_groups,
)
from experiment_kept import keep, kept, made
from experiment_peers import measure_untrained, peers_pairs, train_peer
from experiment_verdicts import PEER, WITHOUT, verdicts

from tuning.components import FULL, INFONCE, arms
from xalign_dist.config import load_config

HERE = Path(__file__).parent
SUITE = HERE / "experiment_suite.yaml"
TRIED = "with "
"""Arms of parts that are off by default: on demand, under the first seed only."""
SIDE = {"oracle": ["--oracle"], "clean": ["--noise", "0"]}
"""Name of a further run of the full method -> how its data differ."""


def main() -> None:
    """Everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="for data and runs")
    parser.add_argument("--seeds", type=int, default=3, help="of training")
    parser.add_argument("--side-seeds", type=int, help="of oracle and clean; default: as --seeds")
    parser.add_argument("--kept", type=Path, help="scores of items, a file a seed; default: OUT/kept")
    parser.add_argument("--tried", action="store_true", help="also put in each part that is off by default")
    parser.add_argument("--without-peer", action="store_true", help="leave sentence-transformers out")
    parser.add_argument("--json", type=Path, help="write figures and claims there")
    parser.add_argument("--markdown", type=Path, help="write the tables there, for RESULTS.md")
    args = parser.parse_args()
    common.data_file("train_pairs.parquet")
    out = args.out.resolve()
    suite = yaml.safe_load(SUITE.read_text("utf-8"))
    groups = suite_groups(suite["high"], suite["low"])
    seeds = {"main": args.seeds, **dict.fromkeys(SIDE, args.side_seeds or args.seeds)}
    files = measure(out, args.kept or out / "kept", seeds, args.tried, not args.without_peer)
    found: dict[str, list[Arm]] = {}
    for file in files:
        for name, arm in kept(file).items():
            found.setdefault(name, []).append(arm)
    found_tests = tests(found, groups)
    report = {
        "seeds": seeds,
        "made": {file.stem: made(file) for file in files},
        "values": values(found, groups),
        "tests": [vars(t) for t in found_tests],
        "claims": [vars(claim) for claim in verdicts(found, groups, found_tests)],
    }
    if args.json:
        args.json.write_text(json.dumps(report, indent=1), "utf-8")
    text = markdown(report)
    print(text)
    if args.markdown:
        args.markdown.write_text(text, "utf-8")


def measure(out: Path, at: Path, seeds: Mapping[str, int], tried: bool, peer: bool) -> list[Path]:
    """The files of scores under ``at``, those that are missing made first; what is off and peers last."""
    for name, options in {"main": [], **SIDE}.items():
        data = out / "data" / name
        if not (data / "run.yaml").exists():
            _run([sys.executable, str(HERE / "experiment_data.py"), "--out", str(data), *options])
    known = list(arms(load_config(str(out / "data" / "main" / "run.yaml"), [])))
    usual = [name for name in known if not name.startswith(TRIED)]
    makers: dict[str, Callable[[], Mapping[str, Path]]] = {}
    for n in range(max(seeds.values())):
        for name in (name for name, count in seeds.items() if n < count):
            makers[f"{name}-seed={n}"] = partial(_trained, out, name, n, usual if name == "main" else [FULL])
    makers["untrained"] = partial(measure_untrained, out, SUITE)
    if tried:
        makers["tried"] = partial(_trained, out, "main", 0, [n for n in known if n.startswith(TRIED)])
    if peer:
        makers["peer"] = partial(_peer, out)
    for name, make in makers.items():
        if not (at / f"{name}.parquet").exists():
            keep(at / f"{name}.parquet", make())
    return [at / f"{name}.parquet" for name in makers]


def _peer(out: Path) -> dict[str, Path]:
    """The peer on the pairs of our fixed-InfoNCE arm, which is trained if it is not here."""
    if not peers_pairs(out, 0).exists():
        _trained(out, "main", 0, [INFONCE])
    return {PEER: train_peer(out, SUITE, 0)}


def _trained(out: Path, name: str, number: int, only: Sequence[str]) -> dict[str, Path]:
    """Directory of each arm of ``only`` under one seed; `xalign ablate` skips what it finds there."""
    data = str(out / "data" / name / "run.yaml")
    chosen = [word for arm in only for word in ("--arm", arm)]
    command = [sys.executable, "-m", "xalign_dist", "ablate", data, "--out", str(out / name)]
    _run([*command, "--first-seed", str(number), "--seeds", "1", *chosen])
    home = out / name / f"seed={number}"
    return {name if name in SIDE else arm: home / arm.replace(" ", "-") for arm in only}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(f"ended with {done.returncode}: {' '.join(command)}")


def values(arms: dict[str, list[Arm]], groups: Groups) -> list[dict[str, object]]:
    """Each arm's averages: mean over seeds, and each seed's."""
    rows = []
    for name, found in arms.items():
        for task in TASKS:
            for group in ("all", "high", "low", UNSEEN):
                if not found[0].parts(task, group, groups):
                    continue
                by_seed = [a.value(task, group, groups) for a in found]
                rows.append(
                    {
                        "arm": name,
                        "task": task,
                        "group": group,
                        "value": float(np.mean(by_seed)),
                        "seeds": by_seed,
                    }
                )
    return rows


def tests(arms: dict[str, list[Arm]], groups: Groups) -> list[Test]:
    """The full method against baselines and against itself without a part; two families for Holm."""
    full, found = arms[FULL], []
    parts = [n for n in arms if n.startswith((WITHOUT, TRIED))]

    def seeds(name: str) -> int:
        return 1 if name.startswith(TRIED) else len(full)

    families: tuple[Sequence[str], ...] = ([n for n in arms if n not in (FULL, *parts, *SIDE, PEER)], parts)
    for family in families:
        rows = [
            difference(f"{FULL} - {name}", task, group, full[: seeds(name)], arms[name], groups)
            for name in family
            for task in TASKS
            for group in (("all", "low") if task == "retrieval" else ("all",))
        ]
        found += corrected(rows)
    if PEER in arms:  # Two ways to the same baseline: not a claim, so in no family.
        ours = arms[INFONCE][: len(arms[PEER])]
        found += [difference(f"{INFONCE} - {PEER}", t, "all", ours, arms[PEER], groups) for t in TASKS]
    return found


def markdown(report: dict) -> str:
    """Tables for a reader."""
    lines = ["| arm | " + " | ".join(_columns(report)) + " |", "|---|" + "---:|" * len(_columns(report))]
    cells = {(v["arm"], f"{v['task']}, {v['group']}"): v["value"] for v in report["values"]}
    for arm in dict.fromkeys(v["arm"] for v in report["values"]):
        shown = [f"{cells[arm, c]:.3f}" if (arm, c) in cells else "" for c in _columns(report)]
        lines.append(f"| {arm} | " + " | ".join(shown) + " |")
    lines += [
        "",
        "| difference | task | languages | value | 95 % interval | p (Holm) |",
        "|---|---|---|---:|---|---:|",
    ]
    for t in report["tests"]:
        lines.append(
            f"| {t['what']} | {t['task']} | {t['group']} | {t['difference']:+.3f} "
            f"| {t['low']:+.3f} to {t['high']:+.3f} | {t['p']:.3g} |"
        )
    lines += ["", "| claim | seen | counts as shown | shown |", "|---|---|---|---|"]
    for c in report["claims"]:
        lines.append(f"| {c['what']} | {c['seen']} | {c['goal']} | {'yes' if c['shown'] else '**no**'} |")
    return "\n".join(lines) + "\n"


def _columns(report: dict) -> list[str]:
    return list(dict.fromkeys(f"{v['task']}, {v['group']}" for v in report["values"]))


if __name__ == "__main__":
    main()
