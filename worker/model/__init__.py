"""Model packages: their contents, how they run, and which one serves.

A published package never changes. The registry is a folder whose file `CHAMPION` names the version
that serves.
"""
