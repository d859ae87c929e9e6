"""A corpus of any size laid out for scoring: equal parts, each group's sample, texts by bucket."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.corpora.tables import write_table
from xalign_dist.errors import DataError, OutputError
from xalign_dist.records import PAIR, Chunk, Int64, text_keys
from xalign_dist.scoring.buckets import bucket_of, buckets_for
from xalign_dist.scoring.sample import Draw, Group, Key, calibrated_with
from xalign_dist.scoring.spill import Spill, read_spill
from xalign_dist.scoring.tally import rows_by_group

PART_ROWS = 8192
_PLAN = "plan.json"
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Staged:
    """Where a laid-out corpus lies, and what is in it.

    Attributes:
        folder: of its files.
        rows: pairs.
        rejected: rows that could not be read as pairs.
        parts: files of at most ``PART_ROWS`` pairs.
        buckets: of the texts; 0: texts were not laid out.
        groups: of the pairs, sorted; rows of tables name them by number.
        keys: what is calibrated together; each has a sample.
        key_of: for every group the number of its key.
        own: for every group the number of the key that is itself.
    """

    folder: str
    rows: int
    rejected: int
    parts: int
    buckets: int
    groups: list[Group]
    keys: list[Key]
    key_of: list[int]
    own: list[int]

    def part(self, number: int) -> pa.Table:
        """Pairs ``number * PART_ROWS`` and following."""
        return pq.read_table(part_path(Path(self.folder), number))

    def sample(self, key: int) -> pa.Table:
        """The sample of key ``key``, in corpus order."""
        return pa.concat_tables([PAIR.empty_table(), *read_spill(Path(self.folder) / "samples", key)])

    def texts(self, bucket: int) -> Iterator[list[str]]:
        """The texts of a bucket; some of them more than once."""
        for table in read_spill(Path(self.folder) / "texts", bucket):
            yield table["text"].to_pylist()


def part_path(folder: Path, number: int) -> Path:
    """File of part ``number``."""
    return folder / "parts" / f"{number:06d}.parquet"


def stage(
    chunks: Iterable[Chunk],
    folder: Path,
    most: int,
    min_pairs: int,
    seed: int,
    *,
    with_texts: bool = True,
    advance: Advance = lambda _: None,
) -> Staged:
    """Lay out the kept rows of ``chunks`` (``PAIR`` columns) under ``folder``, unless that was finished.

    Args:
        chunks: read once, a chunk at a time.
        folder: replaced where it is not whole.
        most: pairs in a sample (``scoring.block_rows``).
        min_pairs: ``scoring.min_pairs``.
        seed: of the samples.
        with_texts: whether the distinct texts are laid out to be embedded.
        advance: told of rows as they come in.

    Raises:
        DataError: no pairs.
        OutputError: not writable.
    """
    if (folder / _PLAN).exists():
        return _open(folder)
    aside = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    draw, rows, parts, rejected = Draw(most, seed), 0, 0, 0

    def kept() -> Iterator[pa.Table]:
        nonlocal rejected
        for chunk in chunks:
            rejected += chunk.rejects.num_rows
            yield chunk.kept

    for parts, table in enumerate(_parts(kept()), 1):
        write_table(table, str(part_path(aside, parts - 1)))
        for group, own in rows_by_group(table).items():
            draw.add(group, own + rows)
        rows += table.num_rows
        advance(table.num_rows)
    if not rows:
        raise DataError("no pairs to score", "check that the corpus is not empty")
    with_key = calibrated_with(draw.pairs, min_pairs)
    keys = sorted({*with_key, *with_key.values()})
    number = {key: i for i, key in enumerate(keys)}
    staged = Staged(
        str(folder),
        rows,
        rejected,
        parts,
        buckets_for(2 * rows) if with_texts else 0,
        list(with_key),
        keys,
        [number[key] for key in with_key.values()],
        [number[group] for group in with_key],
    )
    _spill(aside, staged, [draw.rows(key) for key in keys])
    try:
        (aside / _PLAN).write_text(json.dumps(asdict(staged)), "utf-8")
        aside.rename(folder)
    except OSError as err:
        raise OutputError(f"{folder}: cannot be written ({err.strerror})", "choose another --out") from err
    return staged


def _open(folder: Path) -> Staged:
    found = json.loads((folder / _PLAN).read_text("utf-8"))
    groups = [(g[0], g[1], g[2]) for g in found.pop("groups")]
    keys = [tuple(k) for k in found.pop("keys")]
    return Staged(**{**found, "folder": str(folder), "groups": groups, "keys": keys})


def _parts(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of :data:`PART_ROWS`."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table.select(PAIR.names).cast(PAIR))
        while sum(t.num_rows for t in held) >= PART_ROWS:
            whole = pa.concat_tables(held)
            yield whole.slice(0, PART_ROWS).combine_chunks()
            held = [whole.slice(PART_ROWS)]
    rest = pa.concat_tables([PAIR.empty_table(), *held])
    if rest.num_rows:
        yield rest.combine_chunks()


def _spill(home: Path, staged: Staged, rows: list[Int64]) -> None:
    """Second reading of the parts: samples by key, distinct texts of each part by bucket."""
    samples, texts = Spill(home / "samples"), Spill(home / "texts")
    for number in range(staged.parts):
        table, first = pq.read_table(part_path(home, number)), number * PART_ROWS
        for key, row_N in enumerate(rows):
            low, high = np.searchsorted(row_N, (first, first + table.num_rows))
            if high > low:
                samples.add(key, table.take(pa.array(row_N[low:high] - first)))
        if staged.buckets:
            _spill_texts(table, staged.buckets, texts)
    samples.flush()
    texts.flush()


def _spill_texts(table: pa.Table, count: int, texts: Spill) -> None:
    distinct = list(dict.fromkeys(table["src"].to_pylist() + table["tgt"].to_pylist()))
    bucket_N = bucket_of(text_keys(distinct), count)
    column = pa.table({"text": pa.array(distinct, pa.string())})
    for bucket in np.unique(bucket_N).tolist():
        texts.add(bucket, column.take(pa.array(np.flatnonzero(bucket_N == bucket))))
