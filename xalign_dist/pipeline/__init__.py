"""Stages of a run, one file each; rounds.py is the whole story."""
