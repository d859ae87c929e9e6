"""Totals add up, over shards too."""

import pytest
from cleaning_rows import pairs

from xalign_dist.cleaning import CleaningCounts, Deduplicator, clean_rows
from xalign_dist.config import CleaningConfig
from xalign_dist.errors import StageError

SHARDS = [
    pairs(("Good morning", "Guten Morgen"), ("...", "Guten Morgen"), ("same", "Same")),
    pairs(("Good morning", "guten morgen"), ("x", "y"), ("Good night", "Gute Nacht")),
]


def test_every_row_is_kept_or_refused_once() -> None:
    cfg = CleaningConfig()
    dedup, total = Deduplicator(cfg), CleaningCounts()
    for shard in SHARDS:
        rows = clean_rows(shard, cfg)
        unique = dedup.apply(rows.kept)
        counts = CleaningCounts()
        counts.add(shard.num_rows, unique.kept.num_rows, [rows.rejects, unique.rejects])
        total += counts
    assert total.to_json() == {
        "read": 6,
        "kept": 2,
        "rejected": {"empty": 1, "exact_duplicate": 1, "identical": 1, "length": 1},
    }
    assert total.read == total.kept + total.rejected.total()
    assert total.summary().startswith("6 read, 2 kept; rejected: ")


def test_lost_rows_are_noticed() -> None:
    counts = CleaningCounts()
    with pytest.raises(StageError, match="read 3 rows but accounts for 2"):
        counts.add(3, 2, [])
    assert counts == CleaningCounts()
    assert counts.summary() == "0 read, 0 kept"
