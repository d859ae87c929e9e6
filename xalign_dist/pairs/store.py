"""The training set on disk, opened by every worker: memory-mapped, so that workers share its pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.errors import DataError
from xalign_dist.pairs.write import LAYOUT, META_FILE, ORIGINS, PAIRS_FILE, write_training_set
from xalign_dist.records import Float32, Int64

__all__ = ["ORIGINS", "TrainingSet", "write_training_set"]

_REMEDY = "write the training set again (delete the directory and rerun the stage)"


class TrainingSet:
    """N weighted pairs with their token ids, read-only.

    Attributes:
        path: the directory.
        rows: N.
        languages: ISO 639-3 codes, sorted; ``src_lang_N`` and ``tgt_lang_N`` index it.
        group_names: language pairs without direction, e.g. ``eng-fra``; ``group_N`` indexes it.
        weight_N: float32, from 0 up.
        src_key_N, tgt_key_N: :func:`~xalign_dist.records.text_keys` of the texts.
        origin_N: index into :data:`ORIGINS`.
        src_length_N, tgt_length_N: tokens of each text, at least 1.
    """

    def __init__(self, path: str, meta: dict[str, Any]) -> None:
        """Map the arrays of ``path``; use :meth:`open`, which reads ``meta``."""
        self.path = path
        self.rows: int = meta["rows"]
        self.languages: list[str] = meta["languages"]
        self.group_names: list[str] = meta["group_names"]
        self.weight_N: Float32 = self._column("weight", np.float32)
        self.src_lang_N = self._ids("src_lang")
        self.tgt_lang_N = self._ids("tgt_lang")
        self.group_N = self._ids("group")
        self.origin_N = self._ids("origin")
        self.src_key_N = self._ids("src_key")
        self.tgt_key_N = self._ids("tgt_key")
        self._src_values, self._src_offsets = self._ragged("src")
        self._tgt_values, self._tgt_offsets = self._ragged("tgt")
        self.src_length_N: Int64 = np.diff(self._src_offsets)
        self.tgt_length_N: Int64 = np.diff(self._tgt_offsets)
        self._references: tuple[Any, Any] | None = None
        if meta["reference"]:
            self._references = (self._column("ref_src", np.float16), self._column("ref_tgt", np.float16))

    @classmethod
    def open(cls, path: str) -> TrainingSet:
        """Open what :func:`write_training_set` wrote.

        Raises:
            DataError: missing, of another layout, or with an array cut short.
        """
        meta_file = Path(path) / META_FILE
        try:
            meta = json.loads(meta_file.read_text("utf-8"))
        except (OSError, ValueError) as err:
            raise DataError(f"{meta_file}: not a training set ({err})", _REMEDY) from None
        if not isinstance(meta, dict) or meta.get("layout") != LAYOUT or meta.get("origins") != list(ORIGINS):
            raise DataError(f"{meta_file}: of another layout than {LAYOUT}", _REMEDY)
        return cls(path, meta)

    def src_tokens(self, rows: Int64) -> list[list[int]]:
        """Token ids of the sources of ``rows`` [B], in that order."""
        return _take(self._src_values, self._src_offsets, rows)

    def tgt_tokens(self, rows: Int64) -> list[list[int]]:
        """Token ids of the targets of ``rows`` [B], in that order."""
        return _take(self._tgt_values, self._tgt_offsets, rows)

    def reference(self, rows: Int64) -> tuple[Float32, Float32] | None:
        """The reference encoder's vectors of ``rows``, float32 ``[B, D]`` a side, or None if not stored.

        Stored as float16: a unit vector's component is off by at most 5e-4 of its size.
        """
        if self._references is None:
            return None
        src_ND, tgt_ND = self._references
        return src_ND[rows].astype(np.float32), tgt_ND[rows].astype(np.float32)

    def table(self) -> pa.Table:
        """The pairs with their texts and scores, columns of ``WEIGHTED_PAIR``, read from disk."""
        return pq.read_table(Path(self.path) / PAIRS_FILE)

    def _column(self, name: str, dtype: Any) -> Any:
        array = self._load(name, dtype)
        if len(array) != self.rows:
            raise DataError(f"{self.path}/{name}.npy: {len(array)} rows, not {self.rows}", _REMEDY)
        return array

    def _ids(self, name: str) -> Int64:
        ids: Int64 = np.asarray(self._column(name, np.int64))
        return ids

    def _ragged(self, side: str) -> tuple[Any, Int64]:
        values = self._load(f"{side}_values", np.int32)
        offsets: Int64 = np.asarray(self._load(f"{side}_offsets", np.int64))
        if len(offsets) != self.rows + 1 or offsets[-1] != len(values):
            raise DataError(f"{self.path}/{side}_offsets.npy: does not fit {side}_values.npy", _REMEDY)
        return values, offsets

    def _load(self, name: str, dtype: Any) -> Any:
        file = Path(self.path) / f"{name}.npy"
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as err:
            raise DataError(f"{file}: not readable ({err})", _REMEDY) from None
        if array.dtype != dtype:
            raise DataError(f"{file}: holds {array.dtype}, not {np.dtype(dtype)}", _REMEDY)
        return array


def _take(values: Any, offsets: Int64, rows: Int64) -> list[list[int]]:
    return [values[offsets[r] : offsets[r + 1]].tolist() for r in rows]
