"""How good a model is.

Scores become named numbers with intervals. Nothing here owns a model: it is handed what predicts.
"""
