"""Model packages: what they say of themselves, how they run, and which one serves.

A package never changes once it has its name. The registry is a folder, and `CHAMPION` in it names
the version that serves.
"""
