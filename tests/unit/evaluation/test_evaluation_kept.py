"""benchmarks/experiment_kept.py: what is read back is what the arms' items.parquet say."""

from __future__ import annotations

from pathlib import Path

import experiment_kept
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ITEMS = ["-1f", "2a", "2a#2", "30"]


def arm(folder: Path, scores: dict[tuple[str, str], list[float]], items: list[str] = ITEMS) -> Path:
    """``scores``: (task, metric) -> of ``items`` in eng-deu; rows in an order of the arm's own."""
    rows = [
        {"model": "m", "task": task, "metric": metric, "lang": "eng-deu", "item": item, "score": score}
        for (task, metric), values in scores.items()
        for item, score in zip(items, values, strict=True)
    ]
    rows = [rows[i] for i in np.random.default_rng(len(folder.name)).permutation(len(rows))]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "items.parquet")
    return folder


def test_what_was_kept_is_what_was_measured(tmp_path: Path) -> None:
    lexicon, search, other = ("lexicon", "p@1"), ("clir", "mrr@10"), ("geometry", "hubness")
    ours = arm(tmp_path / "ours", {lexicon: [1, 0, 0, 1], search: [1 / 3, 1, 0, 0.5], other: [9, 9, 9, 9]})
    theirs = arm(tmp_path / "theirs", {lexicon: [0, 0, 1, 1], search: [0, 0, 0.25, 1]})
    experiment_kept.keep(tmp_path / "seed=0.parquet", {"full": ours, "without filter": theirs})
    found = experiment_kept.kept(tmp_path / "seed=0.parquet")
    assert set(found) == {"full", "without filter"}
    assert set(found["full"].items) == {(*row, "eng-deu") for row in (lexicon, search)}
    for name, row, expected in (
        ("full", lexicon, [1, 0, 0, 1]),
        ("full", search, [1 / 3, 1, 0, 0.5]),
        ("without filter", search, [0, 0, 0.25, 1]),
    ):
        items = found[name].items[(*row, "eng-deu")]
        clusters = items.clusters_N.tolist()
        assert clusters == [-0x1F, 0x2A, 0x2A, 0x30]
        assert items.values == pytest.approx(expected, abs=1e-7)
    assert set(experiment_kept.made(tmp_path / "seed=0.parquet")) == {"date", "machine", "commit"}


def test_arms_measured_on_other_items_are_refused(tmp_path: Path) -> None:
    ours = arm(tmp_path / "ours", {("lexicon", "p@1"): [1, 0, 0, 1]})
    theirs = arm(tmp_path / "theirs", {("lexicon", "p@1"): [1, 0, 0, 1]}, ["-1f", "2a", "2a#2", "31"])
    with pytest.raises(ValueError, match="theirs: other items than"):
        experiment_kept.keep(tmp_path / "seed=0.parquet", {"full": ours, "fixed InfoNCE": theirs})
    assert not (tmp_path / "seed=0.parquet").exists()
