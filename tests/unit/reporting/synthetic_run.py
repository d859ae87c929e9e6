"""Writes the synthetic run directory: audits, ledger, telemetry, projection, examples, manifest."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from synthetic_metrics import ATTACK, HIGH, LOW, SENTENCES, comparison_rows, metric_rows


def _audit(round_: int) -> list[dict[str, Any]]:
    edges = np.linspace(0.7, 1.4, 36)
    middle = (edges[:-1] + edges[1:]) / 2
    out = []
    for i, lang in enumerate(HIGH):
        noise = 0.12 + 0.04 * i
        null = 1000 * np.exp(-((middle - 0.97) ** 2) / 0.002)
        clean = 1000 * np.exp(-((middle - 1.16) ** 2) / 0.003)
        observed = noise * null + (1 - noise) * clean
        out.append(
            {
                "src_lang": "eng",
                "tgt_lang": lang,
                "source": "gettext",
                "pairs": 1500,
                "kept": int(1500 * (1 - noise)),
                "noise_estimated": noise,
                "noise_low": noise - 0.03,
                "noise_high": noise + 0.03,
                "threshold": 0.61,
                "expected_noise_kept": 0.019,
                "predicted_precision": None,
                "stable": lang != "ara",
                "note": "few pairs" if lang == "ara" else "",
                "histogram": {
                    "edges": edges.tolist(),
                    "observed": observed.tolist(),
                    "null": null.tolist(),
                    "threshold": 1.04,
                },
                "examples": [
                    {"src": f"{lang} whole", "tgt": "ganz", "margin": 1.05, "confidence": 0.62},
                    {"src": f"{lang} half", "tgt": "halb", "margin": 1.03, "confidence": 0.6},
                ],
            }
        )
    for i, lang in enumerate(LOW):
        out.append(
            {
                "src_lang": lang,
                "tgt_lang": "eng",
                "source": "mono",
                "pairs": 900 + 10 * i,
                "kept": 300 + 60 * round_ + i,
                "noise_estimated": None,
                "noise_low": None,
                "noise_high": None,
                "threshold": 0.5,
                "expected_noise_kept": None,
                "predicted_precision": 0.925 + 0.005 * i,
                "stable": True,
                "note": "",
            }
        )
    return out


def _telemetry(arm: str) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    adaptive = arm == "adaptive"
    rows = []
    for step in range(1, 201):
        t = step / 200
        acc = 0.55 + 0.38 * (1 - math.exp(-4 * t)) + rng.normal(0, 0.01)
        rows.append(
            {
                "step": step,
                "loss": (1.9 if adaptive else 1.2) * math.exp(-2.2 * t) + 0.3 + rng.normal(0, 0.03),
                "lr": 2e-4 * min(1, t / 0.1) * (1 - max(0, t - 0.1) / 0.9),
                "tau": 0.07 - 0.03 * t + rng.normal(0, 0.0012) if adaptive else 0.05,
                "gap": 0.02 + 0.16 * (1 - math.exp(-3 * t)) + rng.normal(0, 0.004),
                "accuracy": acc,
                "lambda_R": 0.3 + (1 - acc) if adaptive else 0.0,
                "lambda_A": 0.02 * min(1, t / 0.2) * min(1, (1 - t) / 0.4) if adaptive else 0.0,
                "uniformity": -2.6 - 0.6 * t,
                "effective_negatives": 24 - 10 * t + rng.normal(0, 0.4),
                "pairs_per_second": 41 + rng.normal(0, 2),
                "padding_share": 0.07,
                "data_wait_share": 0.01,
            }
        )
    return rows


def _projection() -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    langs = ["eng", *HIGH, *LOW]
    out = []
    topics = rng.normal(0, 1, (40, 2))
    shifts = {lang: rng.normal(0, 1.1, 2) for lang in langs}
    for method, scale in (("pca", 1.0), ("tsne", 3.0)):
        for model, away, noise in (("initial", 1.0, 0.2), ("adaptive", 0.12, 0.1)):
            for g in range(40):
                for lang in langs:
                    x, y = scale * (topics[g] + away * shifts[lang] + rng.normal(0, noise, 2))
                    text = ATTACK if (g, lang) == (0, "eng") else f"{SENTENCES[lang]} ({g})"
                    out.append(
                        {
                            "model": model,
                            "method": method,
                            "lang": lang,
                            "group": str(g),
                            "text": text,
                            "x": x,
                            "y": y,
                        }
                    )
    return out


def _examples() -> list[dict[str, Any]]:
    out = []
    for lang in (*HIGH[:3], "ara", *LOW):
        for kind, count in (("gained", 7), ("lost", 2)):
            for i in range(count):
                wrong, right = (
                    f"Another sentence, number {i}, about something else.",
                    f"{SENTENCES['eng']} ({i})",
                )
                before, after = (wrong, right) if kind == "gained" else (right, wrong)
                query = ATTACK if (lang, i) == ("deu", 0) else f"{SENTENCES[lang]} ({i})"
                out.append(
                    {
                        "lang": lang,
                        "kind": kind,
                        "query": query,
                        "expected": right,
                        "before": before,
                        "after": after,
                        "baseline": "infonce",
                    }
                )
    return out


def _manifest() -> dict[str, Any]:
    counts = {
        "data": (6.1, {"pairs": 14_820, "sentences": 12_404}),
        "clean": (14.2, {"read": 27_224, "kept": 25_102, "rejected": 2_122}),
        "embed": (61.4, {"texts": 31_070}),
        "score": (3.8, {"pairs": 9_000, "kept": 7_020, "groups": 6}),
        "mine round 1": (22.9, {"pairs": 4_600, "kept": 1_810}),
        "train adaptive round 1": (
            96.3,
            {"pairs": 8_830, "steps": 100, "loss": 0.91, "pairs_per_second": 41.2},
        ),
        "mine round 2": (31.0, {"pairs": 4_600, "kept": 2_110}),
        "train adaptive round 2": (
            98.8,
            {"pairs": 9_130, "steps": 100, "loss": 0.52, "pairs_per_second": 40.7},
        ),
        "evaluate": (
            74.5,
            {"metrics": 612, "notes": ["word_alignment: static gives no states of single words; left out"]},
        ),
    }
    stages = {
        name: {
            "inputs": "0" * 16,
            "outputs": [],
            "counts": c,
            "seconds": s,
            "finished": f"2026-11-22T20:{10 + i:02d}:00Z",
        }
        for i, (name, (s, c)) in enumerate(counts.items())
    }
    versions = {"xalign_dist": "0.1.0", "python": "3.11.9", "torch": "2.8.0", "ray": "2.60.0"}
    return {"schema": 1, "versions": versions, "stages": stages}


CONFIG = """seed: 0
corpora:
- {path: data/pairs.parquet, kind: pairs, source: gettext}
encoder:
  model: builtin:e5-small?layers=4
  query_prefix: ''
training:
  steps: 200
  batch_pairs: 64
"""


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=False), "utf-8")


def build_run(root: Path) -> Path:
    """Write the whole run directory."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.yaml").write_text(CONFIG, "utf-8")
    write_json(root / "manifest.json", _manifest())
    write_json(root / "metrics.json", {"schema": 1, "metrics": metric_rows()})
    write_json(root / "comparisons.json", {"schema": 1, "comparisons": comparison_rows()})
    for k in (1, 2):
        write_json(root / f"pairs/round={k}/audit.json", {"schema": 1, "entries": _audit(k)})
        events = {
            "enter": 1810 if k == 1 else 420,
            "gain": 0 if k == 1 else 1600,
            "lose": 0 if k == 1 else 90,
        }
        events |= {"leave": 0 if k == 1 else 120, "stay": 0 if k == 1 else 85}
        write_json(root / f"pairs/round={k}/ledger.json", {"schema": 1, "events": events})
    (root / "telemetry").mkdir()
    for arm in ("adaptive", "infonce"):
        lines = [json.dumps(r) for r in _telemetry(arm)]
        (root / f"telemetry/{arm}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    pq.write_table(pa.Table.from_pylist(_projection()), root / "projection.parquet")
    pq.write_table(pa.Table.from_pylist(_examples()), root / "examples.parquet")
    return root
