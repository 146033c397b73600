"""A fitted network to a model package."""
