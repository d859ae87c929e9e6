from pathlib import Path

import numpy as np

from xalign_dist.corpora.arrays import mapped_rows


def test_a_mapped_file_has_its_room_before_it_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    rows = mapped_rows(path, 5000, 100)
    found = path.stat()
    # Without it, what is missing on a full disk would show as SIGBUS while the map is filled.
    assert found.st_blocks * 512 >= found.st_size > 2_000_000
    rows[:] = np.arange(100)
    rows.flush()
    np.testing.assert_array_equal(np.load(path)[4999], np.arange(100, dtype=np.float32))
