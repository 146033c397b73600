"""Turns a fitted network into a model package.

The network is exported, its familiarity limits are fitted, and the manifest is written last.
"""
