"""The inbox and the two folders that films leave it for.

The watcher's events are hints and the scanner's listing is the truth. A film is ready once it has
stopped changing, and is moved without replacing any other.
"""
