"""How well dirty pairs are told from clean ones: our confidence against cosine, margin and simple rules.

    XALIGN_DATA=DIR python benchmarks/filtering.py [--quick] [--json FILE] [--cache DIR]

1. Mixtures: a known share (0, 10, 30, 60 %) of another pair's text, or of another language, in clean
   news; the noise rate estimated for each language, and the clean pairs kept at a target of 2 %.
2. eval_filter_noise: ROC AUC against clean by kind of corruption, mean over languages.
3. REFreSD (judged by people) and MLQE (Spearman with human adequacy).
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filtering_data as data
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture

from xalign_dist.config import ScoringConfig
from xalign_dist.scoring import Scored, score_groups

SHARES = (0.0, 0.1, 0.3, 0.6)
TARGET_NOISE = 0.02
GOALS = {
    "random": 0.98, "shift1": 0.98, "copy_src": 0.98, "wrong_lang": 0.98,
    "truncated": 0.93, "concat_next": 0.93, "number_swap": 0.85, "shuffled": 0.75,
}  # fmt: skip
REFRESD = (
    ("no_meaning_difference", "unrelated", "equivalent / unrelated"),
    ("no_meaning_difference", "some_meaning_difference", "equivalent / partly divergent"),
)
QUICK_LANGS = ("deu", "swa", "tel")
QUICK_MLQE = 150
Rows = list[dict[str, Any]]
Embed = Callable[[list[str]], np.ndarray]


def scored(pairs: pa.Table, embed: Embed) -> Scored:
    """``pairs`` as `xalign score` scores them."""
    vectors = embed(pairs["src"].to_pylist()), embed(pairs["tgt"].to_pylist())
    return score_groups(pairs, *vectors, ScoringConfig(), TARGET_NOISE, 0, 0)


def scores(found: Scored) -> dict[str, np.ndarray]:
    """Our confidence and the alternatives, higher is better."""
    pairs = found.pairs
    margin = pairs["margin"].to_numpy()
    src_len, tgt_len = (np.array([len(t) for t in pairs[c].to_pylist()]) for c in ("src", "tgt"))
    ratio = np.log((tgt_len + 1) / (src_len + 1))
    mixture = GaussianMixture(2, random_state=0).fit(margin[:, None])
    upper = mixture.predict_proba(margin[:, None])[:, int(mixture.means_.argmax())]
    return {
        "ours": pairs["confidence"].to_numpy(),
        "cosine": pairs["cosine"].to_numpy(),
        "margin": margin,
        "length ratio": -np.abs(ratio - np.median(ratio)),
        "two Gaussians": upper,
    }


def auc(good: np.ndarray, bad: np.ndarray) -> float:
    """ROC AUC of scores of good pairs against those of bad ones."""
    return float(roc_auc_score(np.r_[np.ones(len(good)), np.zeros(len(bad))], np.r_[good, bad]))


def result(name: str, ours: float, others: dict[str, float], n: int, unit: str = "ROC AUC") -> dict[str, Any]:
    """One row; the peer is the best alternative, all of them are in ``others``."""
    peer = max(others.values()) if others else None
    ratio = ours / peer if peer else None
    machine = f"{platform.machine()} {platform.processor()}".strip()
    row = {"name": name, "ours": ours, "peer": peer, "ratio": ratio, "unit": unit, "n": n}
    return row | {"machine": machine, "others": others}


def corruption_kinds(noise: data.Labelled, langs: list[str], embed: Embed) -> Rows:
    """AUC by kind, mean over languages."""
    lang = np.array(noise.pairs["tgt_lang"].to_pylist())
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in GOALS}
    for code in langs:
        at = np.flatnonzero(lang == code)
        label = noise.label[at]
        for name, value in scores(scored(noise.pairs.take(at), embed)).items():
            for kind in GOALS:
                one = auc(value[label == "clean"], value[label == kind])
                found[kind].setdefault(name, []).append(one)
    rows = []
    for kind, by_name in found.items():
        means = {name: float(np.mean(values)) for name, values in by_name.items()}
        rows.append(result(f"filter_noise {kind}", means.pop("ours"), means, len(langs)))
    return rows


def mixtures(clean: dict[str, list[tuple[str, str]]], langs: list[str], embed: Embed) -> Rows:
    """Error of the noise rate, and clean pairs kept by ours, a 1.04 margin and two Gaussians."""
    rows = []
    for kind in data.MIX_KINDS:
        for share in SHARES:
            for code in langs:
                pairs, bad = data.mixture(clean, code, kind, share, 3)
                out = scored(pairs, embed)
                entry, values = out.entries[0], scores(out)
                kept = values["ours"] >= np.float32(entry.threshold)
                row = result(f"mixture {kind} {share:.0%} {code}", float(kept[~bad].mean()), {}, len(bad))
                row |= {"unit": "clean kept", "estimated": entry.noise_estimated, "true": float(bad.mean())}
                row["noise left"] = float(bad[kept].mean()) if kept.any() else 0.0
                row["others"] = {
                    "margin 1.04": float((values["margin"] >= 1.04)[~bad].mean()),
                    "two Gaussians": float((values["two Gaussians"] > 0.5)[~bad].mean()),
                }
                row["peer"] = max(row["others"].values())
                row["ratio"] = row["ours"] / max(row["peer"], 1e-9)
                rows.append(row)
    return rows


def human(refresd: data.Labelled, mlqe: dict[str, data.Labelled], most: int | None, embed: Embed) -> Rows:
    """REFreSD AUC and MLQE Spearman."""
    values = scores(scored(refresd.pairs, embed))
    rows = []
    for good, bad, name in REFRESD:
        found = {n: auc(v[refresd.label == good], v[refresd.label == bad]) for n, v in values.items()}
        rows.append(result(f"REFreSD {name}", found.pop("ours"), found, len(refresd.label)))
    for name, part in mlqe.items():
        pairs, human_score = part.pairs.slice(0, most), part.label[:most]
        found = {
            n: float(spearmanr(v, human_score).statistic) for n, v in scores(scored(pairs, embed)).items()
        }
        rows.append(result(f"MLQE {name}", found.pop("ours"), found, len(human_score), "Spearman"))
    return rows


def show(rows: Rows, console: Console) -> None:
    """Two tables: separation, and mixtures by kind and share over the languages."""
    table = Table("set", "ours", "cosine", "margin", "length ratio", "two Gaussians", "goal")
    for row in (r for r in rows if not r["name"].startswith("mixture")):
        goal = GOALS.get(row["name"].removeprefix("filter_noise "))
        other = [f"{row['others'][n]:.3f}" for n in ("cosine", "margin", "length ratio", "two Gaussians")]
        table.add_row(row["name"], f"{row['ours']:.3f}", *other, "" if goal is None else f"{goal:.2f}")
    console.print(table)
    table = Table(
        "mixture", "language", "true", "estimated", "clean kept", "noise left", "two Gaussians keep"
    )
    for row in (r for r in rows if r["name"].startswith("mixture")):
        _, kind, _, code = row["name"].split()
        cells = [row["true"], row["estimated"], row["ours"], row["noise left"]]
        table.add_row(kind, code, *(f"{c:.3f}" for c in cells), f"{row['others']['two Gaussians']:.3f}")
    console.print(table)
    mixed = [r for r in rows if r["name"].startswith("mixture")]
    off = [abs(r["estimated"] - r["true"]) for r in mixed]
    kept = [r["ours"] for r in mixed]
    console.print(
        f"mixtures: estimate off by {np.mean(off):.3f} on average, {max(off):.3f} at most (goal 0.05);"
        f" clean kept {np.mean(kept):.3f} on average, {min(kept):.3f} at least (goal 0.97)"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="three languages, 150 MLQE pairs each")
    parser.add_argument("--langs", help="instead of all languages: ISO 639-3 codes, comma-separated")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("runs/filtering-vectors"), help="vectors by text")
    args = parser.parse_args()
    folder = data.data_folder()
    embed = data.CachedEmbedder(args.cache)
    noise = data.filter_noise(folder)
    every = sorted(pc.unique(noise.pairs["tgt_lang"]).to_pylist())
    langs = args.langs.split(",") if args.langs else list(QUICK_LANGS) if args.quick else every
    lang = np.array(noise.pairs["tgt_lang"].to_pylist())
    clean = {}
    for code in langs:
        own = noise.pairs.take(np.flatnonzero((lang == code) & (noise.label == "clean")))
        clean[code] = list(zip(own["src"].to_pylist(), own["tgt"].to_pylist(), strict=True))
    rows = corruption_kinds(noise, langs, embed)
    rows += human(data.refresd(folder), data.mlqe(folder), QUICK_MLQE if args.quick else None, embed)
    rows += mixtures(clean, langs, embed)
    show(rows, Console(width=120))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
