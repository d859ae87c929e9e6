"""Confidence of parallel pairs: similarity, margin, decoys, calibration, dynamic threshold."""

from xalign_dist.scoring.audit import AuditEntry, read_audit, write_audit
from xalign_dist.scoring.calibrate import Calibration, calibrate
from xalign_dist.scoring.decoys import random_decoys
from xalign_dist.scoring.features import Features, pair_features
from xalign_dist.scoring.histogram import Evidence, Histogram
from xalign_dist.scoring.score import Scored, score_embedded, score_groups, score_pairs
from xalign_dist.scoring.similarity import Neighbourhood, PairScores, pair_scores

__all__ = [
    "AuditEntry",
    "Calibration",
    "Evidence",
    "Features",
    "Histogram",
    "Neighbourhood",
    "PairScores",
    "Scored",
    "calibrate",
    "pair_features",
    "pair_scores",
    "random_decoys",
    "read_audit",
    "score_embedded",
    "score_groups",
    "score_pairs",
    "write_audit",
]
