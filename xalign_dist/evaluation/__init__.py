"""Measuring what a model is worth: tasks, intervals, paired tests, suites."""
