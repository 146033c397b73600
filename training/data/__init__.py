"""Labelled films: where they are, whose they are, and which side each lies on."""
