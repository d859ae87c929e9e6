"""audit.json: what was found about each language pair and source."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xalign_dist.errors import DataError, OutputError

SCHEMA = 1
_OPTIONAL = {"histogram", "examples", "partial"}


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One group of pairs. None: this stage does not know it.

    Attributes:
        src_lang: ISO 639-3.
        tgt_lang: ISO 639-3.
        source: corpus; "mined" for pseudo-labels.
        pairs: pairs seen.
        kept: of these, at or above ``threshold``.
        noise_estimated: share of pairs that are no translations.
        noise_low: lower end of its 95 % interval.
        noise_high: upper end.
        threshold: least confidence kept.
        expected_noise_kept: mean of 1 - confidence over the kept.
        predicted_precision: expected share of right pairs among the kept ones that were mined.
        stable: False: the estimate fell back on the prior.
        note: why, in words.
        histogram: distributions for the report, left out of the file where None: ``edges`` (margins,
            one more than bins), ``observed`` and ``null`` (counts), ``threshold`` (a margin).
        examples: the pairs nearest to the threshold, from the surest kept to the surest refused: ``src``,
            ``tgt``, ``margin``, ``confidence``. Left out of the file where None.
        partial: estimated share of near misses of each kind among the matched pairs: kind ->
            ``estimated``, ``low`` and ``high`` of its 95 % interval. Left out of the file where None.
    """

    src_lang: str
    tgt_lang: str
    source: str
    pairs: int
    kept: int
    noise_estimated: float | None = None
    noise_low: float | None = None
    noise_high: float | None = None
    threshold: float | None = None
    expected_noise_kept: float | None = None
    predicted_precision: float | None = None
    stable: bool = True
    note: str = ""
    histogram: dict[str, Any] | None = None
    examples: list[dict[str, Any]] | None = None
    partial: dict[str, dict[str, float]] | None = None


def write_audit(entries: Sequence[AuditEntry], path: str | Path) -> None:
    """Write audit.json, aside first and renamed when whole; NaN becomes null.

    Raises:
        OutputError: the place cannot be written.
    """
    target = Path(path)
    rows = [
        {k: _plain(v) for k, v in asdict(e).items() if not (k in _OPTIONAL and v is None)} for e in entries
    ]
    aside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"schema": SCHEMA, "entries": rows}, ensure_ascii=False, indent=1)
        aside.write_text(text + "\n", "utf-8")
        aside.replace(target)
    except OSError as err:
        raise OutputError(f"{target}: cannot be written ({err})", "choose another --out") from None
    finally:
        # unlink(missing_ok=True) fails where the parent is a file.
        if aside.exists():
            aside.unlink()


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def read_audit(path: str | Path) -> list[AuditEntry]:
    """The entries of audit.json.

    Raises:
        DataError: missing or damaged file, another schema, an unknown or missing field.
    """
    try:
        data = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as err:
        raise DataError(
            f"{path}: not a readable audit ({err})", "run `xalign score` or `xalign mine`"
        ) from None
    if (
        not isinstance(data, dict)
        or data.get("schema") != SCHEMA
        or not isinstance(data.get("entries"), list)
    ):
        raise DataError(f"{path}: not an audit of schema {SCHEMA}", "write it again with this version")
    names = {f.name for f in fields(AuditEntry)}
    for number, row in enumerate(data["entries"]):
        if not isinstance(row, dict) or set(row) | _OPTIONAL != names:
            odd = sorted(names ^ (set(row) | _OPTIONAL)) if isinstance(row, dict) else row
            raise DataError(f"{path}: entry {number}: fields {odd}", "write it again with this version")
    return [AuditEntry(**row) for row in data["entries"]]
