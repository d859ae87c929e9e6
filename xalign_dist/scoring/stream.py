"""Scoring in two passes over parts on disk: one measures and calibrates, one labels.

The passes are plain functions of a part's number. Who runs them, one after another in this
process or many at once on a cluster, is the caller's :class:`Passes`. Nothing here holds more
than a part, and per group a histogram, at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.config import ScoringConfig
from xalign_dist.corpora.tables import write_batches, write_table
from xalign_dist.records import SCORED_PAIR, EmbedFn
from xalign_dist.scoring.audit import AuditEntry
from xalign_dist.scoring.features import Features
from xalign_dist.scoring.histogram import BINS, Histogram, Seen, bin_of
from xalign_dist.scoring.judge import Judge, Labels, judge
from xalign_dist.scoring.score import with_scores
from xalign_dist.scoring.stage import Advance, Staged
from xalign_dist.scoring.tally import Tally, rows_by_group
from xalign_dist.scoring.yardstick import Measured, Rows, Yardstick

T = TypeVar("T")
WRONG = BINS
"""The bin that counts pairs condemned by their text."""

_COUNTS = pa.schema([("group", pa.int32()), ("bin", pa.int32()), ("count", pa.int64())])
_NOISE = pa.field("noise", pa.float32())


class Passes(Protocol):
    """Runs work by number."""

    def parts(self, work: Callable[[int], pa.Table], count: int) -> Iterator[pa.Table]:
        """The tables of ``work(0)``, ``work(1)``, ...; rows in that order, blocks as they come."""
        ...

    def keep(self, work: Callable[[int], T], numbers: Sequence[int]) -> Callable[[int], T]:
        """Do ``work`` for ``numbers``; its results by number, from any process of the passes."""
        ...


class LocalPasses:
    """One after another, here."""

    def parts(self, work: Callable[[int], pa.Table], count: int) -> Iterator[pa.Table]:
        """Lazily."""
        return map(work, range(count))

    def keep(self, work: Callable[[int], T], numbers: Sequence[int]) -> Callable[[int], T]:
        """When asked for, and remembered."""
        del numbers
        return functools.cache(work)


@dataclass(frozen=True)
class Job:
    """What every pass needs: the corpus, its vectors, the settings, and where measurements lie."""

    staged: Staged
    vectors: EmbedFn
    cfg: ScoringConfig
    target_noise: float
    seed: int
    measured: Path

    def rows(self, table: pa.Table) -> Rows:
        """The texts of ``table`` with their vectors."""
        src, tgt = table["src"].to_pylist(), table["tgt"].to_pylist()
        return Rows(src, tgt, self.vectors(src), self.vectors(tgt))

    def yardstick(self, key: int) -> Yardstick:
        """Of key ``key``, from its sample."""
        langs = self.staged.keys[key][:2]
        return Yardstick.of(self.rows(self.staged.sample(key)), (langs[0], langs[1]), self.cfg, self.seed)

    def measure(self, number: int, yardstick: Callable[[int], Yardstick]) -> pa.Table:
        """Measure a part, unless that was done; how many pairs of each group fell into each bin."""
        path = self.measured / f"{number:06d}.parquet"
        groups = {group: i for i, group in enumerate(self.staged.groups)}
        if path.exists():
            return _counts(pq.read_table(path))
        part = self.staged.part(number)
        columns: dict[str, np.ndarray[Any, Any]] = {
            "group": np.zeros(part.num_rows, np.int32),
            "cosine": np.zeros(part.num_rows, np.float32),
            "margin": np.zeros(part.num_rows, np.float32),
            "features": np.zeros(part.num_rows, np.uint8),
        }
        for group, at in rows_by_group(part).items():
            found = yardstick(self.staged.key_of[groups[group]]).measure(self.rows(part.take(pa.array(at))))
            columns["group"][at] = groups[group]
            columns["cosine"][at], columns["margin"][at] = found.cosine_N, found.margin_N
            columns["features"][at] = found.features.pack()
        table = pa.table(columns)
        write_table(table, str(path))
        return _counts(table)

    def judge(
        self, group: int, yardstick: Callable[[int], Yardstick], seen: Sequence[Seen]
    ) -> tuple[Judge, float]:
        """How group ``group`` is judged, and its threshold."""
        key, own = self.staged.key_of[group], self.staged.own[group]
        yard = yardstick(key)
        if key == own:
            found = judge(yard, seen[group], self.cfg, self.seed)
            return found, found.threshold(yard.rows, yard.measured, self.target_noise)
        # Of a pool the sample stands for the whole.
        found = judge(yard, yard.measured.seen(), self.cfg, self.seed)
        sample = self.rows(self.staged.sample(own))
        return found, found.threshold(sample, yard.measure(sample), self.target_noise)

    def label(self, number: int, judges: Callable[[int], tuple[Judge, float]], round_: int) -> pa.Table:
        """The pairs of a part, scored: ``SCORED_PAIR`` and each one's probability of being noise."""
        part, known = self.staged.part(number), pq.read_table(self.measured / f"{number:06d}.parquet")
        group_N, cosine_N, margin_N, bits_N = (
            known[n].to_numpy() for n in ("group", "cosine", "margin", "features")
        )
        confidence_N, noise_N = np.zeros(len(group_N), np.float32), np.zeros(len(group_N), np.float32)
        features = Features.unpack(bits_N)
        for group in np.unique(group_N).tolist():
            at = np.flatnonzero(group_N == group)
            rows = part.take(pa.array(at))
            found = judges(group)[0].label(
                rows["src"].to_pylist(),
                rows["tgt"].to_pylist(),
                Measured(cosine_N[at], margin_N[at], features.take(at)),
            )
            confidence_N[at], noise_N[at] = found
        scored = with_scores(part, np.stack([cosine_N, margin_N, confidence_N]), round_)
        return scored.append_column(_NOISE, pa.array(noise_N))


def score_stream(
    job: Job, passes: Passes, out: str, round_: int, advance: Advance = lambda _: None
) -> list[AuditEntry]:
    """Score a laid-out corpus into ``out`` (one Parquet file, rows in the order given); its audit.

    ``advance`` is told of rows as they are measured.

    Raises:
        DataError: vectors that are missing or not of unit length.
        OutputError: not writable.
    """
    staged = job.staged
    yardstick = passes.keep(job.yardstick, sorted(set(staged.key_of)))
    seen = [Seen() for _ in staged.groups]
    for counts in passes.parts(functools.partial(job.measure, yardstick=yardstick), staged.parts):
        advance(_merge(seen, counts))
    judges = passes.keep(
        functools.partial(job.judge, yardstick=yardstick, seen=seen), range(len(staged.groups))
    )
    tallies = {group: Tally(judges(i)[1]) for i, group in enumerate(staged.groups)}
    labelled = passes.parts(functools.partial(job.label, judges=judges, round_=round_), staged.parts)
    write_batches(_counted(labelled, tallies), SCORED_PAIR, out)
    return [
        tally.entry(group, judges(i)[0], job.target_noise, staged.key_of[i] != staged.own[i])
        for i, (group, tally) in enumerate(tallies.items())
    ]


def _counts(measured: pa.Table) -> pa.Table:
    """Measurements as counts by group and bin of the margin."""
    wrong_N = Features.unpack(measured["features"].to_numpy()).wrong_N
    bin_N = np.where(wrong_N, WRONG, bin_of(measured["margin"].to_numpy()))
    cell_N, count_N = np.unique(
        measured["group"].to_numpy().astype(np.int64) * (WRONG + 1) + bin_N, return_counts=True
    )
    group_N, bin_N = np.divmod(cell_N, WRONG + 1)
    return pa.table([group_N, bin_N, count_N], names=_COUNTS.names).cast(_COUNTS)


def _merge(seen: list[Seen], counts: pa.Table) -> int:
    """Add counts to ``seen`` in place; how many pairs they are."""
    group_N, bin_N, count_N = (counts[n].to_numpy() for n in _COUNTS.names)
    for group in np.unique(group_N).tolist():
        own = group_N == group
        place_N, many_N = bin_N[own], count_N[own]
        fair = place_N != WRONG
        histogram = Histogram(np.bincount(place_N[fair], many_N[fair], BINS).astype(np.float64))
        seen[group] = Seen.merge([seen[group], Seen(histogram, int(many_N[~fair].sum()))])
    return int(count_N.sum())


def _counted(labelled: Iterator[pa.Table], tallies: dict[Any, Tally]) -> Iterator[pa.Table]:
    for table in labelled:
        confidence_N, noise_N = table["confidence"].to_numpy(), table[_NOISE.name].to_numpy()
        margin_N = table["margin"].to_numpy()
        for group, at in rows_by_group(table).items():
            found = Labels(confidence_N[at], noise_N[at])
            tallies[group].add(table.take(pa.array(at)), margin_N[at], found)
        yield table.select(SCORED_PAIR.names)
