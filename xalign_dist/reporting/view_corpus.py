"""What the report shows of the audits, the mined pairs and the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xalign_dist.evaluation.metrics import GROUP_NAMES, base_task
from xalign_dist.records import Metric
from xalign_dist.reporting.charts import Histogram, histogram
from xalign_dist.reporting.names import ADAPTIVE, language_key, language_name
from xalign_dist.reporting.run_data import LEDGER_EVENTS

Audits = Mapping[int, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Noise of one language pair, or of one of its sources (``part``).

    ``true`` is the known rate (only where the suite knows it); ``expected_noise`` and
    ``noise_left`` are the shares of noise among the kept pairs, as predicted and as known.
    """

    key: str
    name: str
    source: str
    pairs: int
    kept: int | None
    estimated: float
    low: float | None
    high: float | None
    true: float | None
    threshold: float | None
    expected_noise: float | None
    noise_left: float | None
    kept_clean: float | None
    stable: bool
    note: str
    part: bool


def audit_rows(audits: Audits, metrics: Sequence[Metric]) -> list[AuditRow]:
    """The last audit of parallel text: a row per language pair, and one per source where it has several.

    Without audits, what ``metrics`` say of them.

    A pair's figures are its sources' means, weighted by pairs; so are the bounds (not too narrow).
    """
    rounds = [k for k, entries in sorted(audits.items()) if any(_noise(e) is not None for e in entries)]
    by_key: dict[str, list[Mapping[str, Any]]] = {}
    for entry in audits[rounds[-1]] if rounds else _entries_of(metrics):
        if _noise(entry) is not None:
            by_key.setdefault(language_key(entry["src_lang"], entry["tgt_lang"]), []).append(entry)
    known = _known(metrics, "audit")
    out = []
    for key in sorted(by_key, key=language_name):
        entries = by_key[key]
        truth = known.get(key, {})
        out.append(_audit_row(key, entries, truth))
        if len(entries) > 1:
            out += [_audit_row(key, [e], {}, part=True) for e in entries]
    return out


def _entries_of(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    rows = [m for m in metrics if (base_task(m.task), m.metric) == ("audit", "noise_estimated")]
    last = max((m.round for m in rows), default=0)
    return [
        {
            "src_lang": m.src_lang,
            "tgt_lang": m.tgt_lang,
            "pairs": m.n,
            "noise_estimated": m.value,
            "noise_low": m.low,
            "noise_high": m.high,
        }
        for m in rows
        if m.round == last
    ]


def _audit_row(
    key: str, entries: Sequence[Mapping[str, Any]], truth: Mapping[str, float], part: bool = False
) -> AuditRow:
    pairs = sum(int(e.get("pairs") or 0) for e in entries)
    kept = [int(e["kept"]) for e in entries if e.get("kept") is not None]
    single = entries[0] if len(entries) == 1 else {}
    return AuditRow(
        key,
        language_name(key),
        str(single.get("source") or "") if single else f"{len(entries)} sources",
        pairs,
        sum(kept) if len(kept) == len(entries) else None,
        _mean(entries, "noise_estimated") or 0.0,
        _mean(entries, "noise_low"),
        _mean(entries, "noise_high"),
        truth.get("noise_true"),
        single.get("threshold"),
        _mean(entries, "expected_noise_kept", "kept"),
        truth.get("noise_left"),
        truth.get("kept_clean"),
        all(e.get("stable", True) for e in entries),
        str(single.get("note") or ""),
        part,
    )


def _noise(entry: Mapping[str, Any]) -> float | None:
    found = entry.get("noise_estimated")
    return None if found is None else float(found)


def _mean(entries: Sequence[Mapping[str, Any]], field: str, weight: str = "pairs") -> float | None:
    """Mean of a field over entries, by ``weight``; None where any lacks it."""
    values = [e.get(field) for e in entries]
    weights = [float(e.get(weight) or 0) for e in entries]
    if any(v is None for v in values):
        return None
    total = sum(weights)
    if not total:
        return sum(float(v) for v in values if v is not None) / len(values)
    return sum(float(v) * w for v, w in zip(values, weights, strict=True) if v is not None) / total


def _known(metrics: Sequence[Metric], task: str, round_: int | None = None) -> dict[str, dict[str, float]]:
    """Language -> metric -> value of a task about the corpus; the mean over directions, last round wins.

    Where several models mined, ours counts.
    """
    rows = [m for m in metrics if base_task(m.task) == task and round_ in (None, m.round)]
    models = {m.model for m in rows}
    ours = ADAPTIVE if ADAPTIVE in models else max(models, default="")
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for m in rows:
        if m.model == ours:
            by_metric = found.setdefault(language_key(m.src_lang, m.tgt_lang), {})
            by_metric.setdefault(m.metric, {}).setdefault(m.round, []).append(m.value)
    return {
        key: {name: sum(v := rounds[max(rounds)]) / len(v) for name, rounds in by_metric.items()}
        for key, by_metric in found.items()
    }


def audit_histograms(audits: Audits) -> list[Histogram]:
    """Score distributions of the last audit that carries them."""
    for _, entries in sorted(audits.items(), reverse=True):
        charts = [_chart(e) for e in entries if e.get("histogram")]
        if charts:
            return charts
    return []


@dataclass(frozen=True, slots=True)
class Borderline:
    """The pairs of one group nearest to its threshold, surest first: (source, target, confidence, kept)."""

    title: str
    pairs: list[tuple[str, str, float, bool]]


def borderline_pairs(audits: Audits) -> list[Borderline]:
    """Of the last audit that carries examples."""
    for _, entries in sorted(audits.items(), reverse=True):
        found = [Borderline(_title(e), _examples(e)) for e in entries if e.get("examples")]
        if found:
            return found
    return []


def _examples(entry: Mapping[str, Any]) -> list[tuple[str, str, float, bool]]:
    least = float(entry.get("threshold") or 0.0)
    rows = [(str(x["src"]), str(x["tgt"]), float(x["confidence"])) for x in entry["examples"]]
    # Confidences in the audit have six digits.
    return [(src, tgt, sure, sure >= least - 1e-6) for src, tgt, sure in sorted(rows, key=lambda r: -r[2])]


def _title(entry: Mapping[str, Any]) -> str:
    source = entry.get("source")
    return language_name(language_key(entry["src_lang"], entry["tgt_lang"])) + (
        f" ({source})" if source else ""
    )


def _chart(entry: Mapping[str, Any]) -> Histogram:
    found = entry["histogram"]
    share = _noise(entry)
    return histogram(
        _title(entry),
        [float(v) for v in found["edges"]],
        [float(v) for v in found["observed"]],
        [float(v) for v in found["null"]],
        1.0 if share is None else share,
        found.get("threshold"),
    )


@dataclass(frozen=True, slots=True)
class MiningRow:
    """Mined pairs of one language in one round; truths None where no gold is known."""

    round: int
    key: str
    name: str
    candidates: int | None
    kept: int | None
    predicted: float | None
    precision: float | None
    recall: float | None


def mining_rows(audits: Audits, metrics: Sequence[Metric]) -> list[MiningRow]:
    """Rows by language and round; last, where measured, all languages together."""
    rounds = {k for k, entries in audits.items() if any(_is_mined(e) for e in entries)}
    rounds |= {m.round for m in metrics if base_task(m.task) == "mining"}
    out = [row for number in sorted(rounds) for row in _mining_round(number, audits, metrics)]
    return sorted(out, key=lambda r: (r.key in GROUP_NAMES, r.name, r.round))


def _mining_round(number: int, audits: Audits, metrics: Sequence[Metric]) -> Iterable[MiningRow]:
    known = _known(metrics, "mining", number)
    mined: dict[str, list[Mapping[str, Any]]] = {}
    for entry in audits.get(number, ()):
        if _is_mined(entry):
            mined.setdefault(language_key(entry["src_lang"], entry["tgt_lang"]), []).append(entry)
    # Mining is of low-resource languages: `all` and `low` are the same rows twice.
    keys = {*mined, *known} - ({"low", "high"} if "all" in known else {"high"})
    for key in keys:
        entries, truth = mined.get(key, []), known.get(key, {})
        if key in GROUP_NAMES:
            entries = [e for group in mined.values() for e in group]
        candidates = [int(e["pairs"]) for e in entries if e.get("pairs") is not None]
        kept = [int(e["kept"]) for e in entries if e.get("kept") is not None]
        yield MiningRow(
            number,
            key,
            language_name(key),
            sum(candidates) if candidates else None,
            sum(kept) if kept else None,
            truth.get(
                "predicted_precision", _mean(entries, "predicted_precision", "kept") if entries else None
            ),
            truth.get("precision"),
            truth.get("recall"),
        )


def _is_mined(entry: Mapping[str, Any]) -> bool:
    return entry.get("noise_estimated") is None and entry.get("predicted_precision") is not None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Labels that entered, gained, lost, left in a round; ``share`` of the largest count, 0-100."""

    round: int
    bars: list[tuple[str, int, float]]


def ledger_rows(ledgers: Mapping[int, Mapping[str, int]]) -> list[LedgerRow]:
    """One row per round, on one scale."""
    top = max((n for events in ledgers.values() for n in events.values()), default=0) or 1
    return [
        LedgerRow(k, [(name, events[name], 100 * events[name] / top) for name in LEDGER_EVENTS])
        for k, events in sorted(ledgers.items())
    ]
