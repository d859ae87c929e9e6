"""Figures of a synthetic run: 12 languages, four models, paired tests."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

HIGH = ["deu", "fra", "spa", "rus", "zho", "ara"]
LOW = ["cym", "gle", "swh", "isl", "uig"]
UNSEEN = ["tel"]
ATTACK = "</script><script>alert('x')</script><img src=x onerror=alert(1)>"

SENTENCES = {
    "eng": "The file could not be saved because the disk is full.",
    "deu": "Die Datei konnte nicht gespeichert werden, weil die Platte voll ist.",
    "fra": "Le fichier n’a pas pu être enregistré car le disque est plein.",
    "spa": "No se pudo guardar el archivo porque el disco está lleno.",
    "rus": "Не удалось сохранить файл: диск переполнен.",
    "zho": "磁盘已满，无法保存文件。",
    "ara": "تعذر حفظ الملف لأن القرص ممتلئ.",
    "cym": "Ni ellid cadw'r ffeil am fod y ddisg yn llawn.",
    "gle": "Níorbh fhéidir an comhad a shábháil mar tá an diosca lán.",
    "swh": "Faili halikuweza kuhifadhiwa kwa sababu diski imejaa.",
    "isl": "Ekki tókst að vista skrána því diskurinn er fullur.",
    "uig": "دىسكا توشۇپ كەتكەچكە ھۆججەتنى ساقلىغىلى بولمىدى.",
    "tel": "డిస్క్ నిండినందున ఫైల్ సేవ్ కాలేదు.",
}
_LEVEL = {"initial": 0.0, "static": -0.22, "infonce": 0.11, "adaptive": 0.16}


def _base(lang: str) -> float:
    spread = {**dict.fromkeys(HIGH, 0.74), **dict.fromkeys(LOW, 0.36), "tel": 0.5}
    return spread[lang] + 0.02 * ((sum(map(ord, lang)) % 7) - 3)


def _value(model: str, lang: str) -> float:
    extra = {"infonce": 0.03, "adaptive": 0.13}.get(model, 0.0) if lang in LOW else 0.0
    return float(np.clip(_base(lang) + _LEVEL[model] + extra, 0.02, 0.985))


def _row(
    model: str, task: str, metric: str, src: str, tgt: str, value: float, n: int, **more: Any
) -> dict[str, Any]:
    half = 1.96 * math.sqrt(max(value * (1 - value), 0.001) / n)
    row = {
        "model": model,
        "round": 0 if model in ("initial", "static") else 2,
        "task": task,
        "metric": metric,
    }
    row |= {"src_lang": src, "tgt_lang": tgt, "value": round(value, 4), "low": round(value - half, 4)}
    return row | {"high": round(value + half, 4), "n": n, "seed": 0} | more


def _groups() -> dict[str, list[str]]:
    return {"all": HIGH + LOW + UNSEEN, "high": HIGH, "low": LOW}


def metric_rows() -> list[dict[str, Any]]:
    out = []
    for model in _LEVEL:
        for lang in HIGH + LOW + UNSEEN:
            v = _value(model, lang)
            for src, tgt in (("eng", lang), (lang, "eng")):
                out.append(_row(model, "retrieval", "accuracy", src, tgt, v, 500))
                out.append(_row(model, "retrieval", "xsim", src, tgt, 1 - v, 500))
            out.append(_row(model, "pooled_retrieval", "accuracy", lang, "all", 0.92 * v, 500))
            out.append(_row(model, "lexicon", "p@1", "eng", lang, 0.6 * v, 250))
            out.append(_row(model, "similarity", "gap", "eng", lang, 0.1 + 0.25 * v, 500))
        for key, langs in _groups().items():
            v = float(np.mean([_value(model, x) for x in langs]))
            for task, metric, value in (
                ("retrieval", "accuracy", v),
                ("retrieval", "xsim", 1 - v),
                ("pooled_retrieval", "accuracy", 0.92 * v),
                ("lexicon", "p@1", 0.6 * v),
                ("similarity", "gap", 0.1 + 0.25 * v),
                ("classification", "accuracy", 0.5 + 0.3 * v),
            ):
                out.append(_row(model, task, metric, key, key, value, 500 * len(langs)))
        langs = ["eng", *HIGH[:4], *LOW[:3]]
        for a in langs:
            for b in langs:
                v = 0.5 * (
                    _value(model, a if a != "eng" else "deu") + _value(model, b if b != "eng" else "fra")
                )
                out.append(_row(model, "clir", "mrr@10", a, b, 0.9 * v, 300))
    return out + _corpus_metrics()


def _corpus_metrics() -> list[dict[str, Any]]:
    out = []
    for i, lang in enumerate(HIGH):
        for metric, v in (("noise_true", 0.1 + 0.04 * i), ("noise_left", 0.011), ("kept_clean", 0.97)):
            out.append(_row("adaptive", "audit", metric, "eng", lang, v, 1500))
    for round_ in (1, 2):
        for i, lang in enumerate([*LOW, "all"]):
            for metric, v in (
                ("precision", 0.9 + 0.01 * i),
                ("recall", 0.42 + 0.05 * i + 0.1 * round_),
                ("predicted_precision", 0.925 + 0.005 * i),
            ):
                pair = ("all", "all") if lang == "all" else (lang, "eng")
                out.append(_row("adaptive", "mining", metric, *pair, v, 400, round=round_))
    return out


def comparison_rows() -> list[dict[str, Any]]:
    values = {
        (r["model"], r["task"], r["metric"], r["src_lang"], r["tgt_lang"]): r["value"] for r in metric_rows()
    }
    out = []
    for baseline in ("initial", "infonce", "static"):
        for (model, task, metric, src, tgt), value in values.items():
            if model != "adaptive" or task in ("clir", "audit", "mining"):
                continue
            theirs = values[baseline, task, metric, src, tgt]
            d = value - theirs
            half = 0.012 if src == tgt else 0.03
            p = 0.0004 if abs(d) > half else 0.31
            out.append(
                {
                    "task": task,
                    "metric": metric,
                    "lang": src if src == tgt else f"{src}-{tgt}",
                    "ours": "adaptive",
                    "baseline": baseline,
                    "difference": round(d, 4),
                    "low": round(d - half, 4),
                    "high": round(d + half, 4),
                    "p": p,
                    "p_holm": min(1.0, 2 * p),
                    "n": 500,
                    "note": "",
                }
            )
    return out
