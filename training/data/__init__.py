"""Labelled films: where they are, their patients, and their sides of the split.

A patient never changes side. Anything that could leak from one side to the other stops the night.
"""
