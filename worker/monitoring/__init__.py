"""What the worker says of itself.

Events go to the log, the terminal, the journal and Prometheus. `drift` tells without labels whether
the films that arrive still look like the first ones.
"""
