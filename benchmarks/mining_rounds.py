"""Rounds of mining on gold: precision, recall and the ledger's events, with training between the rounds.

    XALIGN_DATA=DIR python benchmarks/mining_rounds.py [--quick] [--json FILE] [--out DIR]

The stages of `xalign run` on eval_mining: two piles for each low-resource language, with translations
hidden in them, and clean parallel text of three high-resource languages from train_pairs.parquet. The
encoder that trains and the reference are the same one, cut down to ``--layers`` layers, so that training
has much to add: the trained encoder takes the mining over as soon as it is better on held-out pairs of
the high-resource languages. No gold is used but to judge. The peer of each figure is that of round 1.
``--layers 12`` is the whole encoder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from common import Row
from experiment_data import choose
from mining_data import MODEL, MiningSet, mining_sets
from rich.console import Console
from rich.table import Table

from xalign_dist.config import RunConfig, parse_config
from xalign_dist.corpora.tables import read_table
from xalign_dist.evaluation.mining import mining_scores
from xalign_dist.pipeline.console import Screen
from xalign_dist.pipeline.context import open_run
from xalign_dist.pipeline.rounds import embed, label_round, one_round, prepare
from xalign_dist.records import ENGLISH

LOW = ("sw-en", "te-en", "yo-en", "am-en", "ga-en")
QUICK = ("sw-en", "yo-en")
HIGH = ("deu", "fra", "spa")
PAIRS = 700
MEASURES = ("precision", "recall", "f1")


class Found(NamedTuple):
    """What the labels of one language pair are worth after one round."""

    round: int
    name: str
    labels: int
    gold: int
    precision: float
    recall: float
    f1: float
    predicted: float


def write_piles(sets: Sequence[MiningSet], out: Path) -> list[dict[str, str]]:
    """The two sides of each language pair as corpora of sentences."""
    corpora = []
    for one in sets:
        for code, side in ((ENGLISH, one.target), (one.lang, one.source)):
            path = out / f"mono_{one.lang}_{code}.parquet"
            pq.write_table(side, path)
            corpora.append(
                {"path": str(path), "kind": "sentences", "source": path.stem, "mining_group": one.lang}
            )
    return corpora


def write_parallel(out: Path, seed: int) -> dict[str, str]:
    """``PAIRS`` clean pairs of each high-resource language."""
    table, rng, rows = pq.read_table(common.data_file("train_pairs.parquet")), np.random.default_rng(seed), []
    for lang in HIGH:
        for n, row in enumerate(choose(table, lang, PAIRS, rng)):
            ids = {"src_id": f"{lang}-{n}", "tgt_id": f"{lang}-{n}", "src_lang": ENGLISH, "tgt_lang": lang}
            rows.append(ids | {"src": row["src"], "tgt": row["tgt"]})
    pq.write_table(pa.Table.from_pylist(rows), out / "parallel.parquet")
    return {"path": str(out / "parallel.parquet"), "source": "train_pairs"}


def settings(sets: Sequence[MiningSet], out: Path, layers: int, steps: int, rounds: int) -> RunConfig:
    """As a user would write them; everything else is the default."""
    model = f"{MODEL}?layers={layers}"
    return parse_config(
        {
            "encoder": {"model": model},
            "scoring": {"reference": model},
            "training": {"steps": steps},
            "rounds": {"count": rounds},
            "corpora": [write_parallel(out, 0), *write_piles(sets, out)],
        }
    )


def judge(home: Path, number: int, sets: Sequence[MiningSet], cut: float) -> list[Found]:
    """The labels of a round against the gold, and all languages together."""
    table, found = read_table(str(home / "mined" / "pairs.parquet")), []
    all_pairs: list[Any] = []
    all_confidence: list[float] = []
    all_gold: set[Any] = set()
    for one in sets:
        own = table.filter(pc.equal(table["tgt_lang"], one.lang))
        ids = zip(own["src_id"].to_pylist(), own["tgt_id"].to_pylist(), strict=True)
        pairs = [((one.name, a), (one.name, b)) for a, b in ids]
        gold = {((one.name, english), (one.name, other)) for other, english in one.gold}
        confidence = own["confidence"].to_pylist()
        found.append(_found(number, one.name, pairs, gold, confidence, cut))
        all_pairs, all_confidence, all_gold = all_pairs + pairs, all_confidence + confidence, all_gold | gold
    return [*found, _found(number, "all", all_pairs, all_gold, all_confidence, cut)]


def _found(
    number: int, name: str, pairs: list[Any], gold: set[Any], confidence: list[float], cut: float
) -> Found:
    scores = mining_scores(pairs, gold, confidence, cut)
    figures = np.nan_to_num([scores.precision, scores.recall, scores.f1, scores.predicted_precision])
    return Found(number, name, scores.mined, scores.gold, *map(float, figures))


def events_of(home: Path, number: int) -> dict[str, tuple[int, str]]:
    """Of each kind of event of the ledger in this round: how many, and the reason given for the first."""
    events = json.loads((home / "ledger" / "events.json").read_text("utf-8"))["events"]
    own = [e for e in events if e["round"] == number]
    kinds = {kind: [e for e in own if e["event"] == kind] for kind in ("enter", "gain", "lose", "leave")}
    return {kind: (len(some), some[0]["reason"] if some else "") for kind, some in kinds.items()}


def show(found: Sequence[Found], events: Sequence[dict[str, tuple[int, str]]]) -> None:
    """One line a language pair and round, and the ledger of each round."""
    console = Console(width=140)
    table = Table("pair", "round", "labels", "gold", *MEASURES, "predicted precision")
    for one in sorted(found, key=lambda f: (f.name == "all", f.name, f.round)):
        figures = (f"{x:.3f}" for x in (one.precision, one.recall, one.f1, one.predicted))
        table.add_row(one.name, str(one.round), str(one.labels), str(one.gold), *figures)
    console.print(table)
    for number, kinds in enumerate(events, 1):
        for kind, (count, reason) in kinds.items():
            console.print(f"round {number}: {count:,} {kind}{f', e.g. {reason}' if reason else ''}")


def rows_of(found: Sequence[Found], events: Sequence[dict[str, tuple[int, str]]]) -> list[Row]:
    """Every figure beside that of round 1; predicted precision beside the true one; the ledger's counts."""
    first = {one.name: one for one in found if one.round == 1}
    rows = []
    for one in found:
        where, begin = f"{one.name}, round {one.round}", first[one.name]
        rows.append(Row(f"{where}: labels", float(one.labels), float(begin.labels), "labels", one.gold))
        # Without a label there is no precision.
        for name in MEASURES if one.labels else ("recall",):
            peer = getattr(begin, name) if begin.labels else None
            rows.append(Row(f"{where}: {name}", getattr(one, name), peer, "share", one.gold))
        if one.labels:
            name = f"{where}: predicted against true precision"
            rows.append(Row(name, one.predicted, one.precision, "share", one.labels))
    for number, kinds in enumerate(events, 1):
        for kind, (count, _) in kinds.items():
            rows.append(Row(f"ledger, round {number}: {kind}", float(count), None, "labels", 1))
    return rows


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/mining-rounds"), help="of the run; a new one")
    parser.add_argument("--layers", type=int, default=4, help="of the encoder")
    parser.add_argument("--steps", type=int, help="of all rounds together; None: 180, quick 30")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    sets = mining_sets(QUICK if args.quick else LOW)
    data = args.out.resolve() / "data"
    data.mkdir(parents=True, exist_ok=True)
    config = settings(sets, data, args.layers, args.steps or (30 if args.quick else 180), args.rounds)
    found, events = [], []
    with open_run(config, str(args.out), Screen()) as context:
        corpus = prepare(context)
        reference = embed(context, corpus, config.scoring.reference, "embed with the reference encoder")
        for number in range(1, args.rounds + 1):
            # Nothing is mined with what the last round would train.
            work = one_round if number < args.rounds else label_round
            work(context, corpus, reference, number)
            home = context.run.round(number)
            found += judge(home, number, sets, config.mining.min_confidence)
            events.append(events_of(home, number))
    show(found, events)
    common.finish("rounds of mining, judged by gold", rows_of(found, events), args.json)


if __name__ == "__main__":
    main()
