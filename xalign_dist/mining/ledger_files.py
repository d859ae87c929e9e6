"""ledger.parquet and events.json: written aside and renamed, read back with every fault named."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xalign_dist.errors import DataError, OutputError
from xalign_dist.records import SCORED_PAIR

LEDGER_FILE = "ledger.parquet"
EVENTS_FILE = "events.json"
SCHEMA = 1

_COLUMNS = pa.schema(
    [
        *SCORED_PAIR,
        # float64: a reload must go on with exactly the numbers it left.
        pa.field("reliability", pa.float64()),
        pa.field("active", pa.bool_()),
        pa.field("held", pa.int32()),
        pa.field("before", pa.bool_()),
    ]
)
_STATE = b"xalign_ledger"

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What a ledger is beside its labels.

    Attributes:
        smoothing: weight of the past.
        min_confidence: reliability that a label needs.
        rounds: [src_lang, tgt_lang, round, round before] of each language pair.
    """

    smoothing: float
    min_confidence: float
    rounds: list[list[Any]]


def write_ledger(folder: str | Path, rows: Rows, state: LedgerState, events: Rows) -> None:
    """Write both files. The labels come last: they decide which round the ledger is at.

    Args:
        folder: made if missing.
        rows: ``SCORED_PAIR`` fields with reliability, active, held and before.
        state: kept in the metadata of ledger.parquet.
        events: as plain JSON types.

    Raises:
        OutputError: the folder cannot be written.
    """
    home = Path(folder)
    table = pa.Table.from_pylist(rows, _COLUMNS).replace_schema_metadata({_STATE: json.dumps(asdict(state))})
    text = json.dumps({"schema": SCHEMA, "events": events}, ensure_ascii=False, indent=0)
    asides = [home / f"{name}.{os.getpid()}.tmp" for name in (EVENTS_FILE, LEDGER_FILE)]
    try:
        home.mkdir(parents=True, exist_ok=True)
        asides[0].write_text(text + "\n", "utf-8")
        pq.write_table(table, asides[1])
        asides[0].replace(home / EVENTS_FILE)
        asides[1].replace(home / LEDGER_FILE)
    except OSError as err:
        raise OutputError(f"{home}: cannot be written ({err})", "choose another --out") from None
    finally:
        # unlink(missing_ok=True) fails where the parent is a file.
        for aside in (a for a in asides if a.exists()):
            aside.unlink()


def read_ledger(folder: str | Path) -> tuple[Rows, LedgerState, Rows]:
    """Rows, state and events as :func:`write_ledger` takes them.

    Raises:
        DataError: no ledger there, or a damaged file.
    """
    home = Path(folder)
    if not (home / LEDGER_FILE).exists():
        raise DataError(f"{home}: no {LEDGER_FILE}", "begin with a new ledger")
    try:
        table = pq.read_table(home / LEDGER_FILE)
        state = LedgerState(**json.loads((table.schema.metadata or {})[_STATE]))
        events = json.loads((home / EVENTS_FILE).read_text("utf-8"))["events"]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as err:
        raise DataError(
            f"{home}: damaged ledger ({err})", "delete the folder; the rounds fill it again"
        ) from None
    return table.to_pylist(), state, events
