"""The peers of ``benchmarks/mining.py``: one FAISS call, and the mining recipe of sentence-transformers.

The recipe is that of sentence-transformers' example ``bitext_mining.py``, written out anew: exact k-nearest
neighbours both ways (k = 4), ratio margin over the mean similarities of both neighbourhoods, the best of
each row in each direction, pairs sorted by margin, every sentence used once.
"""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np

NEIGHBOURS = 4


def one_call(query_ND: np.ndarray, base_MD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact search as anyone writes it."""
    index = faiss.IndexFlatIP(base_MD.shape[1])
    index.add(base_MD)
    scores, ids = index.search(query_ND, k)
    return scores, ids


def _margins(
    x: np.ndarray, y: np.ndarray, ids: np.ndarray, mean_x: np.ndarray, mean_y: np.ndarray
) -> np.ndarray:
    out = np.zeros(ids.shape)
    for i in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            k = ids[i, j]
            out[i, j] = x[i].dot(y[k]) / ((mean_x[i] + mean_y[k]) / 2)
    return out


def recipe(source: Path, target: Path, vectors: tuple[Path, Path], out: Path) -> int:
    """Text files and cached vectors to a file of pairs; the number of pairs."""
    texts = [f.read_text("utf-8").splitlines() for f in (source, target)]
    x, y = (np.load(f, allow_pickle=False) for f in vectors)
    x_sim, x_ids = one_call(x, y, NEIGHBOURS)
    y_sim, y_ids = one_call(y, x, NEIGHBOURS)
    mean_x, mean_y = x_sim.mean(axis=1), y_sim.mean(axis=1)
    forward = _margins(x, y, x_ids, mean_x, mean_y)
    backward = _margins(y, x, y_ids, mean_y, mean_x)
    best_x, best_y = (
        ids[np.arange(len(ids)), margin.argmax(axis=1)]
        for ids, margin in ((x_ids, forward), (y_ids, backward))
    )
    pairs = np.concatenate(
        [np.stack([np.arange(len(x)), best_x], axis=1), np.stack([best_y, np.arange(len(y))], axis=1)]
    )
    margin = np.concatenate([forward.max(axis=1), backward.max(axis=1)])
    used_x: set[int] = set()
    used_y: set[int] = set()
    with out.open("w", encoding="utf-8") as lines:
        for row in np.argsort(-margin):
            i, j = map(int, pairs[row])
            if i not in used_x and j not in used_y:
                used_x.add(i)
                used_y.add(j)
                lines.write(f"{margin[row]:.4f}\t{texts[0][i]}\t{texts[1][j]}\n")
    return len(used_x)
