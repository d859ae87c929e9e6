"""A threshold without gold, against the gold: F1 and predicted precision of mining on eval_mining.

    XALIGN_DATA=DIR python benchmarks/mining_gold.py [--quick] [--json FILE] [--cache DIR]

For each language pair: our F1 (confidence above 0.5, no gold used) beside the F1 of the margin
threshold that is best with the gold in hand, and of the fixed margins 1.04 and 1.06; the precision
predicted beside the true one; and what is kept when every translation is taken out of the target
side. Means are over the languages that the encoder knows: those that its authors list. Yoruba is
the one of these twelve that they do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from common import Row
from mining_data import MiningSet, ViewCache, mining_sets
from rich.console import Console
from rich.table import Table

from xalign_dist.config import MiningConfig
from xalign_dist.mining import MiningResult, exact_knn, mine

KNOWN = frozenset(["amh", "ara", "cym", "deu", "spa", "fra", "gle", "rus", "swa", "tel", "zho"])
"""Of the languages of eval_mining those on the list of intfloat/multilingual-e5-small's model card."""
FIXED = (1.04, 1.06)
QUICK = ("de-en", "sw-en", "yo-en")
CUT = 0.5


@dataclass(frozen=True)
class Outcome:
    """Ours against the gold of one language pair."""

    name: str
    known: bool
    gold: int
    kept: int
    f1: float
    best: float
    fixed: tuple[float, float]
    precision: float
    recall: float
    predicted: float
    kept_of_none: int
    predicted_of_none: float


def mined(found: MiningSet, cache: ViewCache) -> MiningResult:
    """As `xalign mine` with its defaults, in this process."""
    sides = [cache(t["text"].to_pylist()) for t in (found.source, found.target)]
    views = list(zip(*sides, strict=True))
    return mine(found.source, found.target, exact_knn, views, MiningConfig(), 0, 0)


def right_pairs(result: MiningResult, found: MiningSet) -> np.ndarray:
    """Which candidates are in the gold."""
    ids = zip(result.pairs["src_id"].to_pylist(), result.pairs["tgt_id"].to_pylist(), strict=True)
    return np.array([pair in found.gold for pair in ids], dtype=bool)


def f1(right: np.ndarray, kept: np.ndarray, gold: int) -> float:
    """F1 of the candidates that are kept."""
    return float(2 * right[kept].sum() / max(kept.sum() + gold, 1))


def best_f1(score: np.ndarray, right: np.ndarray, gold: int) -> float:
    """F1 of the best threshold on ``score``."""
    order = np.argsort(-score, kind="stable")
    counts = np.arange(1, len(order) + 1)
    return float((2 * np.cumsum(right[order]) / (counts + gold)).max(initial=0.0))


def judge(found: MiningSet, cache: ViewCache) -> Outcome:
    """Mine with the translations in place, and once more with all of them taken out."""
    result = mined(found, cache)
    right, gold = right_pairs(result, found), len(found.gold)
    confidence, margin = (result.pairs[c].to_numpy() for c in ("confidence", "margin"))
    kept = confidence > CUT
    there = pc.is_in(found.target["id"], pa.array([t for _, t in found.gold]))
    none = mined(found._replace(target=found.target.filter(pc.invert(there))), cache)
    believed = none.pairs["confidence"].to_numpy()
    believed = believed[believed > CUT]
    return Outcome(
        found.name,
        found.lang in KNOWN,
        gold,
        int(kept.sum()),
        f1(right, kept, gold),
        best_f1(margin, right, gold),
        (f1(right, margin >= FIXED[0], gold), f1(right, margin >= FIXED[1], gold)),
        float(right[kept].mean()),
        float(right[kept].sum() / gold),
        float(confidence[kept].mean()),
        len(believed),
        float(believed.mean()) if len(believed) else 0.0,
    )


def show(outcomes: list[Outcome]) -> None:
    """One line a language pair."""
    table = Table(
        "pair", "gold", "kept", "F1", "best F1", "1.04", "1.06", "precision", "predicted", "recall",
        "kept of none", title="Mining without a threshold (* not among the encoder's languages)",
    )  # fmt: skip
    for o in outcomes:
        figures = (o.f1, o.best, *o.fixed, o.precision, o.predicted, o.recall)
        table.add_row(
            o.name + ("" if o.known else " *"),
            str(o.gold),
            str(o.kept),
            *(f"{x:.3f}" for x in figures),
            f"{o.kept_of_none} (at {o.predicted_of_none:.2f})" if o.kept_of_none else "0",
        )
    Console(width=130).print(table)


def rows_of(outcomes: list[Outcome]) -> list[Row]:
    """Rows by pair, and the means over the languages that the encoder knows."""
    rows = []
    for o in outcomes:
        rows.append(Row(f"{o.name}: F1 against best threshold", o.f1, o.best, "F1", o.gold))
        for margin, fixed in zip(FIXED, o.fixed, strict=True):
            rows.append(Row(f"{o.name}: F1 against margin {margin}", o.f1, fixed, "F1", o.gold))
        rows.append(Row(f"{o.name}: predicted against true precision", o.predicted, o.precision, "", o.kept))
    known = [o for o in outcomes if o.known]

    def mean(values: list[float]) -> float:
        return float(np.mean(values))

    ours, best = mean([o.f1 for o in known]), mean([o.best for o in known])
    fixed = [mean([o.fixed[i] for o in known]) for i in (0, 1)]
    off = [abs(o.predicted - o.precision) for o in known]
    n = len(known)
    rows += [
        Row("known languages: mean F1 against best", ours, best, "F1", n, "within 0.02"),
        Row("known languages: mean F1 against 1.04", ours, fixed[0], "F1", n),
        Row("known languages: mean F1 against 1.06", ours, fixed[1], "F1", n),
        Row("known languages: distance to the best F1, mean", best - ours, None, "F1", n, "at most 0.02"),
        Row("known languages: prediction off, mean", mean(off), None, "precision", n, "at most 0.05"),
        Row("known languages: prediction off, most", max(off), None, "precision", n, "at most 0.05"),
    ]
    return rows


def main() -> None:
    """Command line."""
    parser = common.parser(__doc__)
    parser.add_argument("--cache", type=Path, default=Path("runs/mining-vectors"), help="vectors by text")
    args = parser.parse_args()
    cache = ViewCache(args.cache)
    outcomes = [judge(found, cache) for found in mining_sets(QUICK if args.quick else None)]
    show(outcomes)
    common.finish("mining against gold", rows_of(outcomes), args.json)


if __name__ == "__main__":
    main()
