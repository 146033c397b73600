"""The model card, its figures and its pictures.

All of it is made from the numbers of an evaluation, and lies in the model package.
"""
