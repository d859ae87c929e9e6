"""What becomes of a group's pairs at its threshold, counted while they stream by: for the audit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from xalign_dist.records import Float32, Int64
from xalign_dist.scoring.audit import AuditEntry
from xalign_dist.scoring.judge import Judge, Labels
from xalign_dist.scoring.sample import Group

EXAMPLES = 3
LONGEST_EXAMPLE = 300

# Near misses are mentioned when their interval starts above this.
NOTED_RATE = 0.02
POOLED_NOTE = "too few pairs of this source: calibrated with all sources of the language pair"


@dataclass
class Tally:
    """Counts of one group, and its pairs nearest to the threshold on either side."""

    threshold: float
    pairs: int = 0
    kept: int = 0
    noise: float = 0.0
    noise_kept: float = 0.0
    near: dict[bool, list[dict[str, Any]]] = field(default_factory=lambda: {True: [], False: []})

    def add(self, rows: pa.Table, margin_N: Float32, found: Labels) -> None:
        """Count some of the group's rows.

        Args:
            rows: columns ``src`` and ``tgt``, N rows.
            margin_N: their margins.
            found: their labels.
        """
        kept_N = found.confidence_N >= np.float32(self.threshold)
        self.pairs += len(kept_N)
        self.kept += int(kept_N.sum())
        self.noise += float(found.noise_N.sum(dtype=np.float64))
        self.noise_kept += float(found.noise_N[kept_N].sum(dtype=np.float64))
        away_N = np.abs(found.confidence_N - np.float32(self.threshold))
        for side in (True, False):
            at = np.flatnonzero(kept_N == side)
            at = at[np.argsort(away_N[at], kind="stable")[:EXAMPLES]]
            new = [_example(rows, int(i), margin_N, found) for i in at]
            self.near[side] = sorted(self.near[side] + new, key=self._away)[:EXAMPLES]

    def _away(self, example: dict[str, Any]) -> float:
        return abs(float(example["confidence"]) - self.threshold)

    def entry(self, group: Group, judge: Judge, target_noise: float, pooled: bool) -> AuditEntry:
        """The group's line of the audit.

        Args:
            group: whose.
            judge: that labelled it.
            target_noise: noise rate allowed among the kept.
            pooled: whether the judge is that of the language pair.
        """
        stable = judge.calibration.stable
        rate, low, high = judge.noise
        if pooled:
            # Its own rate is what its confidences say, as sure as that of the pool.
            half = (high - low) / 2
            rate = self.noise / max(1, self.pairs)
            low, high = max(0.0, rate - half), min(1.0, rate + half)
        expected = self.noise_kept / self.kept if self.kept else None
        notes = [judge.calibration.note] if judge.calibration.note else []
        notes += [POOLED_NOTE] if pooled else []
        rates = judge.whole.rates if judge.whole else {}
        for name, found in rates.items():
            if found.low > NOTED_RATE:
                notes.append(f"{name}: {found.value:.1%} of the pairs ({found.low:.1%} to {found.high:.1%})")
        # The threshold is set on a sample, and what it keeps of the whole is off by chance.
        if stable and expected is not None and expected > 1.25 * target_noise:
            notes.append(f"no threshold reaches the target noise {target_noise}")
        return AuditEntry(
            *group,
            pairs=self.pairs,
            kept=self.kept,
            noise_estimated=rate,
            noise_low=low,
            noise_high=high,
            threshold=self.threshold,
            expected_noise_kept=expected,
            predicted_precision=None,
            stable=stable,
            note="; ".join(notes),
            histogram=judge.calibration.chart(self.threshold),
            examples=[*self.near[True][::-1], *self.near[False]],
            partial={
                name: {"estimated": found.value, "low": found.low, "high": found.high}
                for name, found in rates.items()
            }
            or None,
        )


def _example(rows: pa.Table, at: int, margin_N: Float32, found: Labels) -> dict[str, Any]:
    return {
        "src": _short(rows["src"][at].as_py()),
        "tgt": _short(rows["tgt"][at].as_py()),
        "margin": round(float(margin_N[at]), 4),
        "confidence": round(float(found.confidence_N[at]), 6),
    }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_EXAMPLE else f"{text[: LONGEST_EXAMPLE - 1]}\u2026"


def rows_by_group(table: pa.Table) -> dict[Group, Int64]:
    """Row numbers of each (src_lang, tgt_lang, source) in ``table``, int64, ascending."""
    names = ("src_lang", "tgt_lang", "source")
    codes = [table[n].combine_chunks().dictionary_encode() for n in names]
    values = [c.dictionary.to_pylist() for c in codes]
    index = [c.indices.to_numpy(zero_copy_only=False).astype(np.int64) for c in codes]
    flat = (index[0] * max(1, len(values[1])) + index[1]) * max(1, len(values[2])) + index[2]
    found: dict[Group, Int64] = {}
    if not len(flat):
        return found
    order = np.argsort(flat, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(flat[order])) + 1):
        first = int(rows[0])
        found[tuple(v[i[first]] for v, i in zip(values, index, strict=True))] = rows
    return found
