"""The model card, its figures and its pictures."""
