"""Measures how good a model is: from scores to named numbers with intervals.

Nothing here owns a model; predictions or packages are passed in.
"""
