"""Scored pairs to training data: selection, leakage-free splits, the mixture, and the set on disk."""

from xalign_dist.pairs.mixture import apportion, sampling_shares
from xalign_dist.pairs.select import Selection, SelectionCounts, select_pairs
from xalign_dist.pairs.split import SPLITS, split_groups, split_pairs
from xalign_dist.pairs.store import TrainingSet
from xalign_dist.pairs.write import WEIGHTED_PAIR, write_training_set

__all__ = [
    "SPLITS",
    "WEIGHTED_PAIR",
    "Selection",
    "SelectionCounts",
    "TrainingSet",
    "apportion",
    "sampling_shares",
    "select_pairs",
    "split_groups",
    "split_pairs",
    "write_training_set",
]
