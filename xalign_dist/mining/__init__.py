"""Pseudo-labels from monolingual text: search, margin, mutual best, calibrated null, ledger."""

from xalign_dist.mining.index import VectorIndex, build_index, load_index
from xalign_dist.mining.knn import MISSING, Neighbours, exact_knn, merge_topk
from xalign_dist.mining.ledger import Ledger, LedgerReport
from xalign_dist.mining.match import Candidates, View, find_candidates
from xalign_dist.mining.mine import KnnSearch, MiningResult, distinct, mine, mine_from_neighbours
from xalign_dist.mining.plan import IndexPlan, plan_index

__all__ = [
    "MISSING",
    "Candidates",
    "IndexPlan",
    "KnnSearch",
    "Ledger",
    "LedgerReport",
    "MiningResult",
    "Neighbours",
    "VectorIndex",
    "View",
    "build_index",
    "distinct",
    "exact_knn",
    "find_candidates",
    "load_index",
    "merge_topk",
    "mine",
    "mine_from_neighbours",
    "plan_index",
]
