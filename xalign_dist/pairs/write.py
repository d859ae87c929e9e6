"""Writing the training set: token ids once as ragged arrays, references as float16, pairs as parquet.

Every array is a plain ``.npy`` so that workers map it into memory instead of copying it. References are
the bulk of it: they go to disk block by block and are never all in memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.errors import DataError, OutputError
from xalign_dist.pairs.ragged import Ragged
from xalign_dist.records import ORIGIN_MINED, ORIGIN_PARALLEL, SCORED_PAIR, Float32, Int64, text_keys

WEIGHTED_PAIR = SCORED_PAIR.append(pa.field("weight", pa.float32()))
ORIGINS = (ORIGIN_PARALLEL, ORIGIN_MINED)
LAYOUT = 1
PAIRS_FILE = "pairs.parquet"
META_FILE = "meta.json"
BLOCK_ROWS = 8192


class Vectors(Protocol):
    """What is read of reference vectors: an array ``[N, D]``, or something that looks rows up when asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, D)``."""

    def __getitem__(self, rows: slice, /) -> Float32: ...


def write_training_set(
    path: str,
    table: pa.Table,
    src_tokens: Ragged | Sequence[Sequence[int]],
    tgt_tokens: Ragged | Sequence[Sequence[int]],
    ref_src_ND: Vectors | None,
    ref_tgt_ND: Vectors | None,
) -> None:
    """Write the directory ``path`` in one rename; what stood there is replaced.

    Args:
        path: local directory (it is memory-mapped by every worker).
        table: columns of :data:`WEIGHTED_PAIR`, N rows.
        src_tokens: token ids of each source text in the whole vocabulary, N rows, none empty.
        tgt_tokens: the same for the targets.
        ref_src_ND: the reference encoder's vectors of the sources, or None for no reference.
        ref_tgt_ND: the same for the targets; None exactly when ``ref_src_ND`` is.

    Raises:
        DataError: nothing to train on, one language only, all weights zero, a bad weight,
            an empty token list, or sides that do not have one entry a row.
        OutputError: ``path`` cannot be written, or holds something else than a training set.
    """
    arrays, meta = _columns(path, table)
    for side, tokens in (("src", src_tokens), ("tgt", tgt_tokens)):
        rows = _ragged(path, side, Ragged.of(tokens), table)
        arrays[f"{side}_values"], arrays[f"{side}_offsets"] = rows.values, rows.offsets_N1
    references = _references(path, ref_src_ND, ref_tgt_ND, table.num_rows)
    meta["reference"] = bool(references)
    _write(Path(path), table.select(WEIGHTED_PAIR.names).cast(WEIGHTED_PAIR), arrays, references, meta)


def _columns(path: str, table: pa.Table) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    missing = [name for name in WEIGHTED_PAIR.names if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}", "pass the table of select_pairs")
    if table.num_rows == 0:
        raise DataError(
            f"{path}: no pair is left to train on",
            "add corpora, raise pairs.target_noise, or set pairs.filter_parallel=false",
        )
    weight_N = _weights(path, table)
    src_lang = table["src_lang"].to_pylist()
    tgt_lang = table["tgt_lang"].to_pylist()
    languages = sorted({*src_lang, *tgt_lang})
    if len(languages) < 2:
        raise DataError(
            f"{path}: all pairs are in one language ({languages[0]})",
            "add corpora of a second language, or check src_lang and tgt_lang under corpora",
        )
    names = ["-".join(sorted(pair)) for pair in zip(src_lang, tgt_lang, strict=True)]
    group_names = sorted(set(names))
    arrays = {
        "weight": weight_N,
        "src_lang": _ids(src_lang, languages),
        "tgt_lang": _ids(tgt_lang, languages),
        "group": _ids(names, group_names),
        "origin": _origins(path, table),
        "src_key": _keys(table["src"]),
        "tgt_key": _keys(table["tgt"]),
    }
    meta = {
        "layout": LAYOUT,
        "rows": table.num_rows,
        "languages": languages,
        "group_names": group_names,
        "origins": list(ORIGINS),
    }
    return arrays, meta


def _keys(texts: pa.ChunkedArray) -> Int64:
    blocks = range(0, len(texts), BLOCK_ROWS)
    keys = [text_keys(texts.slice(start, BLOCK_ROWS).to_pylist()) for start in blocks]
    return np.concatenate([np.zeros(0, np.int64), *keys])


def _weights(path: str, table: pa.Table) -> Float32:
    weight_N: Float32 = table["weight"].to_numpy().astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(weight_N) | (weight_N < 0))
    if bad.size:
        raise DataError(
            f"{path}: row {bad[0]}: weight {weight_N[bad[0]]} is not a number from 0 up",
            "score the pairs again, or set pairs.use_confidence_as_weight=false",
        )
    if not weight_N.any():
        raise DataError(
            f"{path}: the weight of every pair is zero, so nothing would be learned",
            "set pairs.use_confidence_as_weight=false, or look at audit.json for why no pair is trusted",
        )
    return weight_N


def _origins(path: str, table: pa.Table) -> np.ndarray[Any, Any]:
    origin = table["origin"].to_pylist()
    unknown = next((n for n, name in enumerate(origin) if name not in ORIGINS), None)
    if unknown is not None:
        raise DataError(
            f"{path}: row {unknown}: origin {origin[unknown]!r}", f"use one of {', '.join(ORIGINS)}"
        )
    return _ids(origin, ORIGINS)


def _ids(values: Sequence[str], names: Sequence[str]) -> np.ndarray[Any, Any]:
    index = {name: n for n, name in enumerate(names)}
    return np.fromiter((index[v] for v in values), dtype=np.int64, count=len(values))


def _ragged(path: str, side: str, tokens: Ragged, table: pa.Table) -> Ragged:
    if len(tokens) != table.num_rows:
        raise DataError(
            f"{path}: {len(tokens)} token lists for {table.num_rows} rows of {side}",
            "tokenise every row of the table, in its order",
        )
    empty = np.flatnonzero(tokens.lengths_N == 0)
    if empty.size:
        text = str(table[side][int(empty[0])].as_py())[:60]
        raise DataError(
            f"{path}: row {empty[0]}: {side} text {text!r} tokenises to nothing",
            "drop the row, or use a tokenizer that knows its script",
        )
    return tokens


def _references(
    path: str, ref_src_ND: Vectors | None, ref_tgt_ND: Vectors | None, rows: int
) -> dict[str, Vectors]:
    if ref_src_ND is None and ref_tgt_ND is None:
        return {}
    if ref_src_ND is None or ref_tgt_ND is None or ref_src_ND.shape != ref_tgt_ND.shape:
        raise DataError(f"{path}: the two sides' reference vectors do not match", "embed both sides")
    if len(ref_src_ND.shape) != 2 or ref_src_ND.shape[0] != rows:
        raise DataError(
            f"{path}: reference vectors of shape {ref_src_ND.shape} for {rows} rows",
            "embed every row of the table, in its order",
        )
    return {"src": ref_src_ND, "tgt": ref_tgt_ND}


def _write(
    path: Path,
    table: pa.Table,
    arrays: dict[str, np.ndarray[Any, Any]],
    references: dict[str, Vectors],
    meta: dict[str, Any],
) -> None:
    # Names without a process id: what a killed run left is found and removed by the next one.
    aside, old = (path.with_name(f".{path.name}.{end}") for end in ("new", "old"))
    _refuse_foreign(path)
    try:
        for leftover in (aside, old):
            shutil.rmtree(leftover, ignore_errors=True)
        aside.mkdir(parents=True)
        pq.write_table(table, aside / PAIRS_FILE, compression="zstd")
        for name, array in arrays.items():
            np.save(aside / f"{name}.npy", array, allow_pickle=False)
        for side, vectors in references.items():
            _write_reference(path, aside, side, vectors)
        (aside / META_FILE).write_text(json.dumps(meta), "utf-8")
        _replace(aside, path, old)
    except OSError as err:
        raise OutputError(
            f"{path}: cannot write the training set ({err})", "free space or mend the path"
        ) from err
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write_reference(path: Path, aside: Path, side: str, vectors: Vectors) -> None:
    rows, dim = vectors.shape
    with (aside / f"ref_{side}.npy").open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, rows, BLOCK_ROWS):
            block_BD = np.asarray(vectors[start : start + BLOCK_ROWS])
            bad = np.flatnonzero(~np.isfinite(block_BD).all(axis=1))
            if bad.size:
                raise DataError(
                    f"{path}: row {start + bad[0]}: the reference vector of {side} is not finite",
                    "check the model named in scoring.reference",
                )
            file.write(np.ascontiguousarray(block_BD, "<f2").tobytes())


def _refuse_foreign(path: Path) -> None:
    if path.is_dir() and any(path.iterdir()) and not (path / META_FILE).is_file():
        raise OutputError(f"{path}: holds other files than a training set", "choose another directory")


def _replace(aside: Path, path: Path, old: Path) -> None:
    # A directory that is not empty cannot be replaced in one step.
    if path.exists():
        path.rename(old)
    try:
        aside.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
