"""Corpora of any format and place as a stream of records."""
