"""Hyperparameter search: spaces as data, sweeps on Ray Tune, a summary one can run."""
