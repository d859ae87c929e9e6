"""The ledger of pseudo-labels: who enters, gains, loses and leaves over the rounds, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from xalign_dist.config import MiningConfig
from xalign_dist.errors import DataError
from xalign_dist.mining.ledger_files import LedgerState, read_ledger, write_ledger
from xalign_dist.records import SCORED_PAIR

Langs = tuple[str, str]
Key = tuple[str, str]

ENTER, GAIN, LOSE, LEAVE, STAY = "enter", "gain", "lose", "leave", "stay"
NOTICED = 0.01
"""A change of reliability that is worth an event."""

FORGOTTEN = 0.05
"""Reliability under which a pair that is out is no longer remembered."""


@dataclass(frozen=True, slots=True)
class Label:
    """One remembered pair: its ``SCORED_PAIR`` row as last seen, and what the rounds made of it.

    ``reliability``: exponential mean of its confidence over rounds, absence counting 0.
    ``active``: whether it is a label now. ``stable_rounds``: rounds it has been one without a break.
    """

    row: dict[str, Any]
    reliability: float
    active: bool
    stable_rounds: int

    @property
    def key(self) -> Key:
        """(source id, target id)."""
        return self.row["src_id"], self.row["tgt_id"]


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a label in a round, and why."""

    round: int
    src_lang: str
    tgt_lang: str
    src_id: str
    tgt_id: str
    event: str
    reliability: float
    reason: str


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What one update did.

    Attributes:
        round: number of the round.
        counts: labels by event; ``stay``: labels that nothing happened to.
        events: one per label that entered, gained, lost or left.
        pairs: ``SCORED_PAIR`` rows of every remembered pair of the language pairs that were updated.
            ``confidence`` is the reliability; it is above ``min_confidence`` for labels only.
    """

    round: int
    counts: dict[str, int]
    events: list[Event]
    pairs: pa.Table


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The labels of one language pair after a round."""

    round: int
    labels: dict[Key, Label] = field(default_factory=dict)


class Ledger:
    """Pseudo-labels of all language pairs. The last round and the one before it are remembered.

    Args:
        cfg: ``mining`` of the config: ``ledger_smoothing`` is the weight of the past in
            reliability, ``min_confidence`` the reliability that a label needs.
    """

    def __init__(self, cfg: MiningConfig) -> None:
        self.smoothing = cfg.ledger_smoothing
        self.min_confidence = cfg.min_confidence
        self._now: dict[Langs, Snapshot] = {}
        self._before: dict[Langs, Snapshot] = {}
        self._events: dict[tuple[int, Langs], list[Event]] = {}

    def update(self, round_: int, candidates: pa.Table, langs: Iterable[Langs] | None = None) -> LedgerReport:
        """Take in the candidates of a round. The same round again replaces its first try.

        Reliability: ``smoothing * before + (1 - smoothing) * confidence``, the confidence itself when
        a pair is seen for the first time, and confidence 0 when it is no candidate any more. A pair
        above ``min_confidence`` is a label; of two labels that share a sentence the more reliable stays.

        Args:
            round_: number of the round.
            candidates: ``SCORED_PAIR`` rows of every candidate, of any language pairs.
            langs: (src_lang, tgt_lang) that this round mined. None: those in ``candidates``; a
                language pair that found nothing must be named, or its labels stay as they are.

        Raises:
            DataError: a round before the last one.
        """
        by_langs: dict[Langs, dict[Key, dict[str, Any]]] = {tuple(x): {} for x in langs or ()}  # type: ignore[misc]
        for row in candidates.to_pylist():
            of_pair = by_langs.setdefault((row["src_lang"], row["tgt_lang"]), {})
            of_pair[row["src_id"], row["tgt_id"]] = row
        events: list[Event] = []
        stayed = 0
        for pair, rows in sorted(by_langs.items()):
            found, same = self._update_pair(round_, pair, rows)
            events += found
            stayed += same
        counts = Counter(e.event for e in events)
        named = {name: counts[name] for name in (ENTER, GAIN, LOSE, LEAVE)} | {STAY: stayed}
        return LedgerReport(round_, named, events, self._table(sorted(by_langs)))

    def _update_pair(
        self, round_: int, langs: Langs, rows: dict[Key, dict[str, Any]]
    ) -> tuple[list[Event], int]:
        past = self._past(round_, langs)
        labels = {key: self._aged(old, rows.get(key)) for key, old in past.labels.items()}
        labels |= {key: self._fresh(row) for key, row in rows.items() if key not in labels}
        labels = _one_to_one(labels)
        partner = {side: {key[side]: key[1 - side] for key in rows} for side in (0, 1)}
        events, stayed = [], 0
        for key, label in sorted(labels.items()):
            name = _event(past.labels.get(key), label)
            if name == STAY:
                stayed += label.active
                continue
            reason = _reason(name, key, label, rows.get(key), partner, self.min_confidence)
            events.append(Event(round_, *langs, *key, name, round(label.reliability, 4), reason))
        remembered = {k: v for k, v in labels.items() if v.active or v.reliability >= FORGOTTEN}
        self._before[langs], self._now[langs] = past, Snapshot(round_, remembered)
        self._events[round_, langs] = events
        return events, stayed

    def _past(self, round_: int, langs: Langs) -> Snapshot:
        """What is known before this round: the last snapshot, or the one before it on a repeat."""
        now = self._now.get(langs, Snapshot(-1))
        if now.round < round_:
            return now
        if now.round == round_:
            return self._before[langs]
        raise DataError(
            f"ledger of {'-'.join(langs)} is at round {now.round}, asked to take in round {round_}",
            "go on with the run's own rounds, or use a new --out",
        )

    def _fresh(self, row: dict[str, Any]) -> Label:
        active = float(row["confidence"]) > self.min_confidence
        return Label(row, float(row["confidence"]), active, int(active))

    def _aged(self, old: Label, row: dict[str, Any] | None) -> Label:
        confidence = 0.0 if row is None else float(row["confidence"])
        reliability = self.smoothing * old.reliability + (1 - self.smoothing) * confidence
        active = reliability > self.min_confidence
        return Label(row or old.row, reliability, active, old.stable_rounds + 1 if active else 0)

    def labels(self) -> pa.Table:
        """The labels of all language pairs: ``SCORED_PAIR`` rows, ``confidence`` is the reliability."""
        everything = self._table(sorted(self._now))
        return everything.filter(pc.greater(everything["stable_rounds"], 0))

    def _table(self, pairs: Iterable[Langs]) -> pa.Table:
        found = (label for pair in pairs for _, label in sorted(self._now[pair].labels.items()))
        rows = [
            {
                **label.row,
                # A pair that another one put out keeps its reliability but may not look like a label.
                "confidence": label.reliability
                if label.active
                else min(label.reliability, self.min_confidence),
                "stable_rounds": label.stable_rounds,
            }
            for label in found
        ]
        return pa.Table.from_pylist(rows, SCORED_PAIR)

    def events(self) -> list[Event]:
        """Events of all rounds, by round, language pair and ids."""
        return [event for _, found in sorted(self._events.items()) for event in found]

    def save(self, folder: str | Path) -> None:
        """Write ledger.parquet and events.json; a kill between them is mended by repeating the round.

        Raises:
            OutputError: the folder cannot be written.
        """
        rows = [
            {
                **label.row,
                "reliability": label.reliability,
                "active": label.active,
                "held": label.stable_rounds,
                "before": before,
            }
            for before, snapshots in ((False, self._now), (True, self._before))
            for _, snapshot in sorted(snapshots.items())
            for _, label in sorted(snapshot.labels.items())
        ]
        rounds = [[*pair, snapshot.round, self._before[pair].round] for pair, snapshot in self._now.items()]
        state = LedgerState(self.smoothing, self.min_confidence, sorted(rounds))
        write_ledger(folder, rows, state, [asdict(e) for e in self.events()])

    @classmethod
    def load(cls, folder: str | Path) -> Ledger:
        """The ledger that :meth:`save` wrote to ``folder``, with its own settings.

        Raises:
            DataError: no ledger there, or a damaged file.
        """
        rows, state, events = read_ledger(folder)
        ledger = cls(MiningConfig(ledger_smoothing=state.smoothing, min_confidence=state.min_confidence))
        for src_lang, tgt_lang, now, before in state.rounds:
            ledger._now[src_lang, tgt_lang] = Snapshot(now, {})
            ledger._before[src_lang, tgt_lang] = Snapshot(before, {})
        for row in rows:
            snapshots = ledger._before if row.pop("before") else ledger._now
            label = Label(
                {n: row[n] for n in SCORED_PAIR.names}, row["reliability"], row["active"], row["held"]
            )
            snapshots[row["src_lang"], row["tgt_lang"]].labels[label.key] = label
        for raw in events:
            event = Event(**raw)
            ledger._events.setdefault((event.round, (event.src_lang, event.tgt_lang)), []).append(event)
        return ledger


def _one_to_one(labels: dict[Key, Label]) -> dict[Key, Label]:
    """Of active labels that share a sentence only the most reliable stays active."""
    taken: tuple[set[str], set[str]] = (set(), set())
    judged = dict(labels)
    for key, label in sorted(labels.items(), key=lambda item: (-item[1].reliability, item[0])):
        if not label.active:
            continue
        if key[0] in taken[0] or key[1] in taken[1]:
            judged[key] = replace(label, active=False, stable_rounds=0)
        else:
            taken[0].add(key[0])
            taken[1].add(key[1])
    return judged


def _event(old: Label | None, new: Label) -> str:
    was = old is not None and old.active
    if was != new.active:
        return LEAVE if was else ENTER
    if old is None or not new.active or abs(new.reliability - old.reliability) < NOTICED:
        return STAY
    return GAIN if new.reliability > old.reliability else LOSE


def _reason(
    event: str,
    key: Key,
    label: Label,
    row: dict[str, Any] | None,
    partner: dict[int, dict[str, str]],
    least: float,
) -> str:
    if row is not None:
        why = f"best in both directions, confidence {row['confidence']:.2f}"
    elif key[0] in partner[0]:
        why = f"the source now pairs with {partner[0][key[0]]}"
    elif key[1] in partner[1]:
        why = f"the target now pairs with {partner[1][key[1]]}"
    else:
        why = "no longer best in both directions"
    if event == LEAVE:
        low = label.reliability <= least
        why += (
            f"; reliability not over {least}" if low else "; another pair of its sentences is more reliable"
        )
    return why
