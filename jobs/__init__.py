"""Entry points of jobs on a cluster: `python -m jobs.VERB` does what `xalign VERB` does."""
