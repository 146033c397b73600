"""How good a model is: scores to named numbers with intervals."""
