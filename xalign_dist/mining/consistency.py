"""Whether a second view of the same sentences names the same partner."""

from __future__ import annotations

import numpy as np

from xalign_dist.mining.match import Bool, View, find_candidates
from xalign_dist.records import Int64


def agreement(second: View, src_C: Int64, tgt_C: Int64) -> Bool:
    """Whether source ``src_C[i]`` and target ``tgt_C[i]`` are each other's best in the second view too.

    Args:
        second: lists of the same rows under another layer, dropout or encoder.
        src_C: source rows.
        tgt_C: target rows.
    """
    pairs = find_candidates(second)
    partner = np.full(len(second.src.ids), -1, np.int64)
    partner[pairs.src] = pairs.tgt
    return np.asarray(partner[src_C] == tgt_C)
