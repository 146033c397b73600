"""What the operating system gives: files, names, processes and output.

Moves never replace a file, and writes are whole or not there. Trouble with any of it is noted once,
and tried again.
"""
