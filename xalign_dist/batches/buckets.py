"""Length buckets: texts of like length are encoded together, so that little is padded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xalign_dist.records import Int64


def length_chunks(lengths_B: Int64, max_rows: int, max_tokens: int | None) -> list[Int64]:
    """Index chunks that cover 0..B-1 once each, longest texts first.

    Longest first, so that a chunk too large for the memory fails at once and not at the end.

    Args:
        lengths_B: tokens of each text.
        max_rows: texts a chunk may hold, at least 1.
        max_tokens: rows times the longest text a chunk may hold. None: no limit. A text that is
            longer alone gets a chunk of its own.
    """
    order_B = np.argsort(-np.asarray(lengths_B, dtype=np.int64), kind="stable").astype(np.int64)
    chunks: list[Int64] = []
    start = 0
    while start < len(order_B):
        rows = max_rows
        if max_tokens is not None:
            longest = max(1, int(lengths_B[order_B[start]]))
            rows = min(max_rows, max(1, max_tokens // longest))
        chunks.append(order_B[start : start + rows])
        start += rows
    return chunks


def padding_share(lengths_B: Int64, chunks: Sequence[Int64]) -> float:
    """Share of the encoded tokens that is padding when each chunk is padded to its longest, in [0, 1)."""
    padded = sum(len(chunk) * int(lengths_B[chunk].max()) for chunk in chunks if len(chunk))
    real = sum(int(lengths_B[chunk].sum()) for chunk in chunks)
    return 1.0 - real / padded if padded else 0.0
