"""Screeners: child processes that read and score one film at a time.

Each is limited in time, memory and system calls. A film that crashes its screener does not affect
other films.
"""
