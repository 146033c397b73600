"""Labelled films: where they are, whose they are, and which side each lies on.

A patient never changes side. What could leak from one side to the other stops the night.
"""
