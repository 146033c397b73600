"""The long-running worker: its loop, the way of a film, and the change of models."""
