"""The inbox: which files are there, which have stopped changing, and where they go."""
