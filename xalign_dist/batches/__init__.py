"""Who reads what: the plan of batches, length buckets, and the stream of batches with prefetch."""

from xalign_dist.batches.batch import Batch, BatchStream, make_batch, read_step
from xalign_dist.batches.buckets import length_chunks, padding_share
from xalign_dist.batches.plan import BatchPlan, rank_rows

__all__ = [
    "Batch",
    "BatchPlan",
    "BatchStream",
    "length_chunks",
    "make_batch",
    "padding_share",
    "rank_rows",
    "read_step",
]
