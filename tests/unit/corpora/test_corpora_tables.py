"""Parquet tables: whole or not at all."""

from pathlib import Path

import pyarrow as pa
import pytest

from xalign_dist.corpora.tables import read_table, write_batches, write_table
from xalign_dist.errors import DataError, OutputError

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})


@pytest.mark.parametrize("place", ["{tmp}/new/folder/t.parquet", "memory://corpora_tables/t.parquet"])
def test_round_trip(tmp_path: Path, place: str) -> None:
    path = place.format(tmp=tmp_path)
    write_table(TABLE, path)
    assert read_table(path).equals(TABLE)
    write_table(TABLE.slice(1), path)
    assert read_table(path).num_rows == 2


def test_batches_are_cast_and_counted(tmp_path: Path) -> None:
    schema = pa.schema([("b", pa.string()), ("a", pa.int32())])
    assert write_batches((TABLE.slice(i, 1) for i in range(3)), schema, str(tmp_path / "t.parquet")) == 3
    assert read_table(str(tmp_path / "t.parquet")).schema.equals(schema)
    assert write_batches([], schema, str(tmp_path / "none.parquet")) == 0
    assert read_table(str(tmp_path / "none.parquet")).num_rows == 0


def test_an_error_midway_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(TABLE, str(path))

    def broken():
        yield TABLE.slice(0, 1)
        raise DataError("cut off", "mend it")

    with pytest.raises(DataError, match="cut off"):
        write_batches(broken(), TABLE.schema, str(path))
    assert read_table(str(path)).equals(TABLE)
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_table(TABLE, str(tmp_path / "file" / "t.parquet"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_table(TABLE, str(tmp_path / "folder"))
    assert list((tmp_path / "folder").iterdir()) == []


def test_reading_maps_columns_and_names_faults(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    write_table(TABLE, path)
    assert read_table(path, {"id": "a"}, ["id"]).column_names == ["b", "id"]
    with pytest.raises(DataError, match=r"no column 'bb'; it has a, b\n.*--columns bb=b"):
        read_table(path, required=["bb"])
    with pytest.raises(DataError, match="no such file"):
        read_table(path + "x")
    Path(path).write_bytes(Path(path).read_bytes()[:-20])
    with pytest.raises(DataError, match="not readable as Parquet"):
        read_table(path)
