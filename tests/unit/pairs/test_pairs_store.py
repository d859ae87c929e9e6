"""The training set on disk: what is written is read back, and every fault is told with its remedy."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from xalign_dist.errors import DataError, OutputError
from xalign_dist.pairs import WEIGHTED_PAIR, TrainingSet, write_training_set
from xalign_dist.pairs.ragged import Ragged
from xalign_dist.records import text_key

ROWS = [
    ("eng", "fra", "cat", "chat", "parallel", 1.0),
    ("isl", "eng", "hundur", "dog", "mined", 0.5),
    ("fra", "eng", "chat", "cat", "parallel", 0.0),
]
TOKENS = [[5, 6, 7], [8], [9, 10]]


def _table(rows=ROWS):
    return pa.Table.from_pylist(
        [
            {
                "src_id": f"s{n}", "tgt_id": f"t{n}", "src_lang": a, "tgt_lang": b, "src": src, "tgt": tgt,
                "source": "test", "cosine": 0.9, "margin": 1.1, "confidence": 0.5, "origin": origin,
                "round": 1, "stable_rounds": 0, "weight": weight,
            }
            for n, (a, b, src, tgt, origin, weight) in enumerate(rows)
        ],
        schema=WEIGHTED_PAIR,
    )  # fmt: skip


def _write(path, rows=ROWS, src=TOKENS, tgt=TOKENS, ref=None):
    write_training_set(str(path), _table(rows), src, tgt, ref, ref)


def test_columns_come_back(tmp_path):
    _write(tmp_path / "set")
    ts = TrainingSet.open(str(tmp_path / "set"))
    assert ts.rows == 3
    assert ts.languages == ["eng", "fra", "isl"]
    assert ts.src_lang_N.tolist() == [0, 2, 1]
    assert ts.tgt_lang_N.tolist() == [1, 0, 0]
    assert ts.group_names == ["eng-fra", "eng-isl"]
    assert ts.group_N.tolist() == [0, 1, 0]
    assert ts.weight_N.tolist() == [1.0, 0.5, 0.0]
    assert ts.src_key_N.tolist() == [text_key("cat"), text_key("hundur"), text_key("chat")]
    assert ts.src_key_N[0] == ts.tgt_key_N[2]
    assert ts.origin_N.tolist() == [0, 1, 0]
    assert ts.src_length_N.tolist() == [3, 1, 2]
    assert ts.table().equals(_table())
    assert ts.reference(np.array([0])) is None


def test_ragged_tokens_come_back_in_the_order_asked(tmp_path):
    rng = np.random.default_rng(0)
    rows = [("eng", "fra", f"s{n}", f"t{n}", "parallel", 1.0) for n in range(200)]
    src, tgt = ([rng.integers(0, 250_000, rng.integers(1, 40)).tolist() for _ in rows] for _ in range(2))
    _write(tmp_path / "set", rows, src, tgt)
    ts = TrainingSet.open(str(tmp_path / "set"))
    asked = rng.integers(0, 200, 500)
    assert ts.src_tokens(asked) == [src[r] for r in asked]
    assert ts.tgt_tokens(asked) == [tgt[r] for r in asked]
    assert ts.src_length_N.tolist() == [len(t) for t in src]


def test_reference_vectors_lose_at_most_half_precision(tmp_path):
    ref = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    ref /= np.linalg.norm(ref, axis=1, keepdims=True)
    write_training_set(str(tmp_path / "set"), _table(), TOKENS, TOKENS, ref, -ref)
    both = TrainingSet.open(str(tmp_path / "set")).reference(np.array([2, 0]))
    assert both is not None
    assert both[0].dtype == both[1].dtype == np.float32
    np.testing.assert_allclose(both[0], ref[[2, 0]], rtol=5e-4, atol=1e-7)
    np.testing.assert_array_equal(both[1], -both[0])


def test_references_are_read_block_by_block_and_written_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("xalign_dist.pairs.write.BLOCK_ROWS", 2)
    ref = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    asked = []

    class Slow:
        shape = ref.shape

        def __getitem__(self, rows):
            asked.append(rows)
            return ref[rows]

    write_training_set(str(tmp_path / "slow"), _table(), TOKENS, TOKENS, Slow(), ref)
    write_training_set(str(tmp_path / "fast"), _table(), TOKENS, TOKENS, ref, ref)
    assert asked == [slice(0, 2), slice(2, 4)]
    for name in ("ref_src.npy", "ref_tgt.npy"):
        assert (tmp_path / "slow" / name).read_bytes() == (tmp_path / "fast" / name).read_bytes()
        np.testing.assert_array_equal(np.load(tmp_path / "slow" / name), ref.astype(np.float16))


def test_ragged_rows_are_kept_joined_and_counted():
    whole = Ragged.of(TOKENS)
    assert Ragged.of(whole) is whole
    assert whole.lengths_N.tolist() == [3, 1, 2]
    some = whole.where(np.array([True, False, True]))
    assert (some.values.tolist(), some.offsets_N1.tolist()) == ([5, 6, 7, 9, 10], [0, 3, 5])
    joined = Ragged.concatenate([some, Ragged.of([]), whole])
    assert joined.offsets_N1.tolist() == [0, 3, 5, 8, 9, 11]
    assert joined.values.tolist() == [5, 6, 7, 9, 10, 5, 6, 7, 8, 9, 10]
    assert len(Ragged.concatenate([])) == 0


def test_arrays_are_mapped_not_copied(tmp_path):
    _write(tmp_path / "set")
    ts = TrainingSet.open(str(tmp_path / "set"))
    assert isinstance(ts._src_values, np.memmap)
    assert isinstance(ts.weight_N, np.memmap)


def test_writing_again_replaces_the_set_and_leaves_nothing_beside(tmp_path):
    _write(tmp_path / "set", ref=np.ones((3, 2), dtype=np.float32))
    _write(tmp_path / "set", ROWS[:2], TOKENS[:2], TOKENS[:2])
    assert TrainingSet.open(str(tmp_path / "set")).rows == 2
    assert TrainingSet.open(str(tmp_path / "set")).reference(np.array([0])) is None
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_write_that_fails_keeps_the_old_set(tmp_path, monkeypatch):
    _write(tmp_path / "set")

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        _write(tmp_path / "set", ROWS[:2], TOKENS[:2], TOKENS[:2])
    monkeypatch.undo()
    assert TrainingSet.open(str(tmp_path / "set")).rows == 3
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_an_old_set_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    _write(tmp_path / "set")
    rename = Path.rename

    def fails_for_the_new(self, target):
        if self.name.endswith(".new"):
            raise OSError("gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new)
    with pytest.raises(OutputError, match="gone"):
        _write(tmp_path / "set", ROWS[:2], TOKENS[:2], TOKENS[:2])
    monkeypatch.undo()
    assert TrainingSet.open(str(tmp_path / "set")).rows == 3


def _with(row, **changes):
    names = ["src_lang", "tgt_lang", "src", "tgt", "origin", "weight"]
    return tuple(changes.get(name, value) for name, value in zip(names, row, strict=True))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no pair is left.*\n.*pairs.target_noise"),
        ([_with(r, weight=0.0) for r in ROWS], "every pair is zero.*\n.*use_confidence_as_weight=false"),
        ([_with(ROWS[0], tgt_lang="eng")] * 3, r"one language \(eng\)"),
        ([ROWS[0], _with(ROWS[1], weight=float("nan"))], "row 1: weight nan"),
        ([ROWS[0], ROWS[1], _with(ROWS[2], weight=-1.0)], "row 2: weight -1"),
        ([ROWS[0], _with(ROWS[1], weight=None)], "row 1: weight nan"),
        ([ROWS[0], _with(ROWS[1], origin="guessed")], "row 1: origin 'guessed'"),
    ],
)  # fmt: skip
def test_unusable_pairs_are_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        _write(tmp_path / "set", rows, TOKENS[: len(rows)], TOKENS[: len(rows)])
    assert not list(tmp_path.iterdir())


def test_a_text_without_tokens_is_named(tmp_path):
    with pytest.raises(DataError, match=r"row 1: tgt text 'dog' tokenises to nothing"):
        _write(tmp_path / "set", tgt=[[1], [], [2]])


def test_token_lists_must_match_the_rows(tmp_path):
    with pytest.raises(DataError, match="2 token lists for 3 rows"):
        _write(tmp_path / "set", src=TOKENS[:2])


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(DataError, match="no column weight"):
        write_training_set(
            str(tmp_path / "set"), _table().drop_columns(["weight"]), TOKENS, TOKENS, None, None
        )


@pytest.mark.parametrize(
    ("src", "tgt", "message"),
    [
        (np.ones((3, 2)), None, "do not match"),
        (np.ones((2, 2)), np.ones((2, 2)), r"shape \(2, 2\) for 3 rows"),
        (np.ones((3, 2)), np.array([[1, 1], [1, np.nan], [1, 1]]), "row 1: the reference vector of tgt"),
    ],
)
def test_bad_references_are_refused(tmp_path, src, tgt, message):
    with pytest.raises(DataError, match=message):
        write_training_set(str(tmp_path / "set"), _table(), TOKENS, TOKENS, src, tgt)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        _write(tmp_path / "file" / "set")


def test_another_directory_is_not_overwritten(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        _write(tmp_path / "set")
    assert (tmp_path / "set/thesis.txt").read_text() == "mine"


def test_what_a_killed_write_left_is_cleared(tmp_path):
    (tmp_path / ".set.new").mkdir()
    (tmp_path / ".set.new/weight.npy").write_text("half")
    _write(tmp_path / "set")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_missing_set(tmp_path):
    with pytest.raises(DataError, match="not a training set"):
        TrainingSet.open(str(tmp_path / "none"))


def test_another_layout_is_refused(tmp_path):
    _write(tmp_path / "set")
    meta = json.loads((tmp_path / "set/meta.json").read_text())
    (tmp_path / "set/meta.json").write_text(json.dumps({**meta, "layout": 99}))
    with pytest.raises(DataError, match="another layout"):
        TrainingSet.open(str(tmp_path / "set"))


@pytest.mark.parametrize("name", ["weight", "src_values", "tgt_offsets", "group"])
@pytest.mark.parametrize("keep", [0, 100, 135])
def test_a_file_cut_short_is_named(tmp_path, name, keep):
    _write(tmp_path / "set")
    file = tmp_path / f"set/{name}.npy"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"{name}.npy"):
        TrainingSet.open(str(tmp_path / "set"))


def test_arrays_of_another_set_are_noticed(tmp_path):
    _write(tmp_path / "set")
    np.save(tmp_path / "set/src_offsets.npy", np.array([0, 1, 2, 9]))
    with pytest.raises(DataError, match="does not fit"):
        TrainingSet.open(str(tmp_path / "set"))
    np.save(tmp_path / "set/weight.npy", np.ones(4, dtype=np.float32))
    with pytest.raises(DataError, match="4 rows, not 3"):
        TrainingSet.open(str(tmp_path / "set"))


def test_a_pickle_is_never_loaded(tmp_path):
    _write(tmp_path / "set")
    np.save(tmp_path / "set/weight.npy", np.array([{"a": 1}] * 3, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"weight.npy"):
        TrainingSet.open(str(tmp_path / "set"))
    (tmp_path / "set/weight.npy").write_bytes(pickle.dumps([1.0, 2.0, 3.0]))
    with pytest.raises(DataError, match=r"weight.npy"):
        TrainingSet.open(str(tmp_path / "set"))
