"""Logs, metrics and drift.

Events go to the log, the terminal, the journal and Prometheus. `drift` detects without labels
whether arriving films have changed.
"""
