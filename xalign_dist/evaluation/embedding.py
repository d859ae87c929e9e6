"""Each text is embedded once per model, whatever number of tasks it stands in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xalign_dist.errors import ModelError
from xalign_dist.evaluation.vectors import unit_rows
from xalign_dist.records import EmbedFn, Float32, text_keys


class CachedEmbedder:
    """An :class:`EmbedFn` with a memory, that checks what the model gives back.

    Args:
        name: the model's name, for errors.
        embed: the model.
    """

    def __init__(self, name: str, embed: EmbedFn) -> None:
        self.name = name
        self._embed = embed
        self._row: dict[int, int] = {}
        self._rows: list[Float32] = []

    @property
    def embedded(self) -> int:
        """Distinct texts embedded so far."""
        return len(self._row)

    def __call__(self, texts: Sequence[str]) -> Float32:
        """Unit vectors of ``texts``, float32 ``[N, D]``.

        Raises:
            ModelError: NaN or infinite values, a wrong number of vectors, or a width that
                changes between calls.
        """
        keys = text_keys(texts).tolist()
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._row}
        if new:
            self._add(new)
        if not texts:
            return np.zeros((0, self._rows[0].shape[0] if self._rows else 0), np.float32)
        return np.stack([self._rows[self._row[key]] for key in keys])

    def _add(self, new: dict[int, str]) -> None:
        rows = unit_rows(self._embed(list(new.values())), f"model {self.name}")
        if len(rows) != len(new):
            raise ModelError(
                f"model {self.name}: {len(rows)} vectors for {len(new)} texts", "return one vector per text"
            )
        if self._rows and rows.shape[1] != self._rows[0].shape[0]:
            raise ModelError(
                f"model {self.name}: {rows.shape[1]} dimensions, earlier {self._rows[0].shape[0]}",
                "return vectors of one width",
            )
        for key, row in zip(new, rows, strict=True):
            self._row[key] = len(self._rows)
            self._rows.append(row)
