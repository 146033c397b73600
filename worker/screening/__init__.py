"""Screeners: child processes that read and score one film at a time.

Each works behind limits on time, memory and system calls. A film that ends its screener costs
no other film its verdict.
"""
