"""A fitted network becomes a model package.

It is exported, its limits of the familiar are measured, and its manifest is written last.
"""
