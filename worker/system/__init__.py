"""The operating system: files, names, processes and output.

A move never replaces a file, and a file is written completely or not at all. Trouble is logged once
and the operation is retried.
"""
