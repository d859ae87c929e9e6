"""Pairs known to be wrong: what mismatched text scores, measured on the corpus itself."""

from __future__ import annotations

import numpy as np

from xalign_dist.records import Int64


def random_decoys(
    src_key_N: Int64, tgt_key_N: Int64, per_pair: int, rng: np.random.Generator
) -> tuple[Int64, Int64]:
    """Mismatched rows (i, j): ``per_pair`` random rotations of the targets against the sources.

    A rotation uses every source and every target once, so decoys have exactly the corpus' own
    marginals. Rows are dropped where the mismatch would be none: equal source or equal target.

    Args:
        src_key_N: int64, equal for equal source texts.
        tgt_key_N: int64, equal for equal target texts.
        per_pair: rotations; at most N - 1 are used.
        rng: decides the order before rotating and the distances.

    Returns:
        Source rows and target rows, int64 ``[M]`` with M at most ``per_pair * N``.
    """
    n = len(src_key_N)
    if n < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = rng.permutation(n)
    steps = 1 + rng.choice(n - 1, size=min(per_pair, n - 1), replace=False)
    src = np.tile(order, len(steps))
    tgt = np.concatenate([np.roll(order, -int(s)) for s in steps])
    real = (src_key_N[src] != src_key_N[tgt]) & (tgt_key_N[src] != tgt_key_N[tgt])
    return src[real], tgt[real]
