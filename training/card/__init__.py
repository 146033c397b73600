"""The model card, its figures, and pictures of films.

They are made from an evaluation. Card and figures go into the model package.
"""
