"""Screeners: child processes that read and score one film at a time."""
