"""How the mining task finds pairs: the system's own miner, on the vectors of the model measured."""

from __future__ import annotations

import numpy as np

from xalign_dist.config.method import MiningConfig
from xalign_dist.evaluation.context import MineFn
from xalign_dist.evaluation.scores import Float64
from xalign_dist.mining.knn import exact_knn
from xalign_dist.mining.match import View, find_candidates
from xalign_dist.mining.null import estimate
from xalign_dist.records import Float32, Int64


def system_miner(config: MiningConfig | None = None, seed: int = 0) -> MineFn:
    """A :class:`MineFn`: mutual best by margin with calibrated confidence, one view, exact search.

    Texts without a vector (zero rows of static models) take no part.

    Args:
        config: neighbours and iterations. None: the defaults.
        seed: of the miner's own bootstrap.
    """
    cfg = config or MiningConfig()

    def mine(src_ND: Float32, tgt_MD: Float32) -> tuple[Int64, Int64, Float64]:
        src_rows, tgt_rows = (np.flatnonzero(v.any(axis=1)) for v in (src_ND, tgt_MD))
        if not len(src_rows) or not len(tgt_rows):
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        src, tgt = src_ND[src_rows], tgt_MD[tgt_rows]
        view = View.of(exact_knn(src, tgt, cfg.neighbours), exact_knn(tgt, src, cfg.neighbours))
        found = find_candidates(view)
        belief = estimate(found, view, None, cfg.max_iterations, seed)
        return src_rows[found.src], tgt_rows[found.tgt], belief.confidence.astype(np.float64)

    return mine
