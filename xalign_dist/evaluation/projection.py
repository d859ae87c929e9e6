"""The space in two dimensions, for the picture before and after."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from xalign_dist.errors import DataError
from xalign_dist.evaluation.scores import Float64
from xalign_dist.evaluation.vectors import unit_rows
from xalign_dist.records import Float32

PROJECTION = pa.schema(
    [
        ("model", pa.string()),
        ("method", pa.string()),
        ("lang", pa.string()),
        ("group", pa.string()),
        ("text", pa.string()),
        ("x", pa.float32()),
        ("y", pa.float32()),
    ]
)

Method = Literal["pca", "tsne"]


def project(
    embeddings_by_model: Mapping[str, Float32],
    lang: Sequence[str],
    group: Sequence[Hashable],
    text: Sequence[str],
    method: Method = "pca",
    seed: int = 0,
) -> pa.Table:
    """Each model's vectors of the same texts in the plane, one row per model and text.

    PCA shows true distances along two axes; t-SNE (from PCA, cosine distances) shows who is
    near whom and not how far. Models are projected one by one: axes are not shared.

    Args:
        embeddings_by_model: model -> ``[N, D]``, D may differ.
        lang: language of each text.
        group: translations share it.
        text: the texts, unescaped.
        method: see above.
        seed: of t-SNE and of randomised PCA.

    Returns:
        A table of schema ``PROJECTION``.

    Raises:
        DataError: columns of unequal length, or fewer than three texts. ModelError: NaN.
    """
    n = len(text)
    if n < 3 or len(lang) != n or len(group) != n or any(len(e) != n for e in embeddings_by_model.values()):
        raise DataError(
            f"projection of {n} texts, {len(lang)} languages, {len(group)} groups, vectors"
            f" {[len(e) for e in embeddings_by_model.values()]}",
            "give at least three texts, and one language, group and vector for each",
        )
    parts = []
    for model, rows_ND in embeddings_by_model.items():
        plane_N2 = _plane(unit_rows(rows_ND, f"model {model}"), method, seed)
        columns = {
            "model": [model] * n,
            "method": [method] * n,
            "lang": list(lang),
            "group": [str(g) for g in group],
            "text": list(text),
            "x": plane_N2[:, 0].astype(np.float32),
            "y": plane_N2[:, 1].astype(np.float32),
        }
        parts.append(pa.table(columns, schema=PROJECTION))
    return pa.concat_tables(parts) if parts else PROJECTION.empty_table()


def _plane(rows_ND: Float32, method: Method, seed: int) -> Float64:
    if method == "tsne":
        tsne = TSNE(
            n_components=2,
            init="pca" if rows_ND.shape[1] > 1 else "random",
            metric="cosine",
            perplexity=min(30.0, (len(rows_ND) - 1) / 3),
            random_state=seed,
        )
        with threadpool_limits(1):
            return np.asarray(tsne.fit_transform(rows_ND), np.float64)
    width = min(2, *rows_ND.shape)
    flat = np.asarray(PCA(n_components=width, random_state=seed).fit_transform(rows_ND), np.float64)
    return np.pad(flat, ((0, 0), (0, 2 - width)))
