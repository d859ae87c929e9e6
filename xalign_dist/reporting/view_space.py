"""The picture of the space: every model and projection as a panel of the same texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xalign_dist.records import ENGLISH
from xalign_dist.reporting.names import INITIAL, language_name, model_label, model_order

SIZE = 400
_PAD = 12
_MOST_TEXTS = 1500
_MOST_CHARS = 140
_METHODS = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}
_METHOD_NOTES = {
    "tsne": "t-SNE shows who is near whom, not how far.",
    "umap": "UMAP shows who is near whom, not how far.",
    "pca": "PCA shows distances along the two widest axes.",
}

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Panel:
    """One model under one projection: ``dots`` are (text index, language index, x, y)."""

    model: str
    label: str
    method: str
    dots: list[tuple[int, int, float, float]]
    lines: str


@dataclass(frozen=True, slots=True)
class Space:
    """All panels, and the texts they share.

    ``texts`` are (language index, translation group, text); they go into the page as JSON.
    """

    methods: list[tuple[str, str, str]]
    languages: list[tuple[str, str]]
    panels: list[Panel]
    texts: list[tuple[int, int, str]]


def space(rows: Sequence[Mapping[str, Any]], ours: str | None) -> Space | None:
    """Before and after (the first and the run's own model), by projection; None without rows."""
    if not rows:
        return None
    models = sorted({str(r["model"]) for r in rows}, key=model_order)
    shown = [m for m in (INITIAL, ours) if m in models] or models[:2]
    langs = sorted({str(r["lang"]) for r in rows}, key=lambda k: (k != ENGLISH, language_name(k)))
    keys = list(dict.fromkeys(_key(r) for r in rows if r["model"] in shown))[:_MOST_TEXTS]
    index = {k: i for i, k in enumerate(keys)}
    groups = {g: i for i, g in enumerate(dict.fromkeys(k[1] for k in keys))}
    texts = [(langs.index(lang), groups[group], _short(text)) for lang, group, text in keys]
    methods = [m for m in _METHODS if any(r["method"] == m for r in rows)]
    methods += sorted({str(r["method"]) for r in rows} - set(methods))
    panels = []
    for method in methods:
        for model in dict.fromkeys(shown):
            part = [r for r in rows if (r["model"], r["method"]) == (model, method) and _key(r) in index]
            if part:
                panels.append(_panel(str(model), method, part, index, texts))
    return Space(
        [(m, _METHODS.get(m, m), _METHOD_NOTES.get(m, "")) for m in methods],
        [(k, language_name(k)) for k in langs],
        panels,
        texts,
    )


def _key(row: Mapping[str, Any]) -> _Key:
    return str(row["lang"]), str(row["group"]), str(row["text"])


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 1] + "\u2026"


def _panel(
    model: str,
    method: str,
    rows: Sequence[Mapping[str, Any]],
    index: Mapping[_Key, int],
    texts: Sequence[tuple[int, int, str]],
) -> Panel:
    xs, ys = [float(r["x"]) for r in rows], [float(r["y"]) for r in rows]
    # One scale for both axes: a projection's distances mean nothing if one is stretched.
    span = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    middle = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    scale = (SIZE - 2 * _PAD) / span
    dots = []
    for row, x, y in zip(rows, xs, ys, strict=True):
        i = index[_key(row)]
        place = SIZE / 2 + (x - middle[0]) * scale, SIZE / 2 - (y - middle[1]) * scale
        dots.append((i, texts[i][0], round(place[0], 1), round(place[1], 1)))
    return Panel(model, model_label(model), method, dots, _lines(dots, texts))


def _lines(dots: Sequence[tuple[int, int, float, float]], texts: Sequence[tuple[int, int, str]]) -> str:
    """Each translation joined to its English text (to the first of its group without one)."""
    by_group: dict[int, list[tuple[int, float, float]]] = {}
    for i, lang, x, y in dots:
        by_group.setdefault(texts[i][1], []).append((lang, x, y))
    path = []
    for members in by_group.values():
        (_, x0, y0), *rest = sorted(members)
        path += [f"M{x0:g} {y0:g}L{x:g} {y:g}" for _, x, y in rest]
    return "".join(path)
