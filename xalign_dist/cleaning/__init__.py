"""Filters that keep a row or say why not."""

from xalign_dist.cleaning.clean import CleaningCounts, clean_rows
from xalign_dist.cleaning.duplicates import Deduplicator

__all__ = ["CleaningCounts", "Deduplicator", "clean_rows"]
